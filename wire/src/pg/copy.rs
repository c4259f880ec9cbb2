//! COPY to the client: chunks of whole rows, cut so that each CopyData message holds one row, as clients that
//! read row by row expect. (In CSV a quoted line break cuts a row in two, which the protocol allows.)

use session::Format;

use super::encode::message;
use super::stream::Output;

/// Length of the header of the binary format without an extension area.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Appends `data` as CopyData messages.
pub fn data(output: &mut Output, format: Format, data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() {
        let length = match format {
            Format::Text => rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1),
            Format::Binary => binary_row(rest).unwrap_or(rest.len()),
        };
        let (row, after) = rest.split_at(length);
        message(&mut output.bytes, b'd', |out| out.extend_from_slice(row));
        output.end_message();
        rest = after;
    }
}

/// The length of the first row (with the header before it); `None` if the bytes are something else.
fn binary_row(bytes: &[u8]) -> Option<usize> {
    let word =
        |at: usize| -> Option<i32> { Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let mut at = 0;
    if bytes.starts_with(HEADER) {
        let extension = usize::try_from(word(HEADER.len() + 4)?).ok()?;
        at = HEADER.len() + 8 + extension;
        if at == bytes.len() {
            return Some(at);
        }
    }
    let fields = i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
    at += 2;
    // -1 is the trailer: no fields.
    for _ in 0..fields {
        let length = usize::try_from(word(at)?).unwrap_or(0);
        at = at.checked_add(4)?.checked_add(length)?;
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(format: Format, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut output = Output::default();
        data(&mut output, format, bytes);
        let mut rest = output.bytes.as_slice();
        let mut pieces = Vec::new();
        while let [b'd', a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
            pieces.push(after[..length].to_vec());
            rest = &after[length..];
        }
        pieces
    }

    #[test]
    fn one_row_a_message() {
        assert_eq!(pieces(Format::Text, b"1\ta\n2\tb\n"), [b"1\ta\n", b"2\tb\n"]);
        assert_eq!(pieces(Format::Text, b"1\n2"), [&b"1\n"[..], b"2"]);
        let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
        let row = b"\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        let trailer = b"\xff\xff";
        let all = [&header[..], row, row, trailer].concat();
        assert_eq!(
            pieces(Format::Binary, &all),
            [[&header[..], row].concat(), row.to_vec(), trailer.to_vec()]
        );
        assert_eq!(pieces(Format::Binary, header), [header]);
        assert_eq!(pieces(Format::Binary, b"\0\x02\0"), [b"\0\x02\0"]);
    }
}
