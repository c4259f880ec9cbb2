//! ErrorResponse and NoticeResponse: every field an error carries, in the order PostgreSQL sends them.

use value::Error;

use super::encode::message;

/// Appends an ErrorResponse. `fatal`: the session ends with it.
pub fn respond(out: &mut Vec<u8>, error: &Error, fatal: bool) {
    let severity = if fatal || error.fields().fatal { "FATAL" } else { "ERROR" };
    write(out, b'E', severity, error);
}

/// Appends a NoticeResponse.
pub fn notice(out: &mut Vec<u8>, severity: &str, error: &Error) {
    write(out, b'N', severity, error);
}

fn write(out: &mut Vec<u8>, kind: u8, severity: &str, error: &Error) {
    let fields = error.fields();
    let position = fields.position.map(|position| position.to_string());
    let optional = [
        (b'D', fields.detail.as_deref()),
        (b'H', fields.hint.as_deref()),
        (b'P', position.as_deref()),
        (b'W', fields.context.as_deref()),
        (b's', fields.schema.as_deref()),
        (b't', fields.table.as_deref()),
        (b'c', fields.column.as_deref()),
        (b'd', fields.data_type.as_deref()),
        (b'n', fields.constraint.as_deref()),
    ];
    message(out, kind, |out| {
        let mut field = |code: u8, text: &str| {
            out.push(code);
            // A NUL in a message would end the field early and shift all that follow.
            out.extend(text.bytes().filter(|byte| *byte != 0));
            out.push(0);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', fields.state.as_str());
        field(b'M', &fields.message);
        for (code, text) in optional {
            if let Some(text) = text {
                field(code, text);
            }
        }
        out.push(0);
    });
}
