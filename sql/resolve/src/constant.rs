//! Folding of constants, by PostgreSQL's rules: immutable functions over constants are evaluated now, so that
//! `SELECT 1/0 FROM empty` fails. So does `CASE WHEN a > 0 THEN 1 ELSE 1/0 END`, as there: only what constants before
//! it already exclude (an arm after WHEN true, COALESCE after a value, AND after false) is not evaluated.

use function::{Environment, Signature, Volatility};
use value::types::{self, Repr, element_of, oid};
use value::{Array, Datum, Oid, Result, Type};

use crate::tree::{Call, Convert, ConvertKind, Expr, Query};
use crate::walk::{Part, children_mut, query_parts_mut};

/// Folds a query and everything inside it.
pub(crate) fn fold_query(query: &mut Query, env: &dyn Environment, conditional: bool) -> Result<()> {
    crate::parse::level(|| {
        let mut result = Ok(());
        query_parts_mut(query, &mut |part| {
            if result.is_ok() {
                result = match part {
                    Part::Expr(expr) => fold_expr(expr, env, conditional),
                    Part::Query(inner) => fold_query(inner, env, conditional),
                };
            }
        });
        result
    })
}

/// Folds an expression in place. With `conditional` nothing fails.
pub(crate) fn fold_expr(expr: &mut Expr, env: &dyn Environment, conditional: bool) -> Result<()> {
    crate::parse::level(|| fold(expr, env, conditional))
}

fn boolean(value: bool) -> Expr {
    Expr::Const { value: Datum::Bool(value), ty: Type::new(oid::BOOL) }
}

fn constant(expr: &Expr) -> Option<&Datum> {
    match expr {
        Expr::Const { value, .. } => Some(value),
        _ => None,
    }
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Const { value: Datum::Null, ty: Type::new(oid::UNKNOWN) })
}

fn fold(expr: &mut Expr, env: &dyn Environment, conditional: bool) -> Result<()> {
    match expr {
        Expr::Case { .. } => return fold_case(expr, env, conditional),
        Expr::Coalesce { .. } => return fold_coalesce(expr, env, conditional),
        Expr::And(_) => return fold_logic(expr, env, conditional, false),
        Expr::Or(_) => return fold_logic(expr, env, conditional, true),
        Expr::Sublink(sublink) => fold_query(&mut sublink.query, env, conditional)?,
        _ => {}
    }
    let mut result = Ok(());
    children_mut(expr, &mut |child| {
        if result.is_ok() {
            result = fold_expr(child, env, conditional);
        }
    });
    result?;
    let folded = match expr {
        Expr::Call(call) => call_value(call, env),
        Expr::Convert(convert) => convert_value(convert, env),
        Expr::Not(input) => match constant(input) {
            Some(Datum::Bool(value)) => Ok(Some(boolean(!*value))),
            Some(Datum::Null) => Ok(Some(Expr::Const { value: Datum::Null, ty: Type::new(oid::BOOL) })),
            _ => Ok(None),
        },
        Expr::IsNull { input, negated } => {
            Ok(constant(input).map(|value| boolean(value.is_null() != *negated)))
        }
        Expr::IsBool { input, value, negated } => Ok(match constant(input) {
            Some(Datum::Bool(actual)) => Some(boolean((actual == value) != *negated)),
            Some(Datum::Null) => Some(boolean(*negated)),
            _ => None,
        }),
        Expr::Array { elements, ty } => {
            let element = element_of(ty.oid);
            let plain = elements.iter().all(|e| e.ty().oid == element && constant(e).is_some());
            Ok(plain.then(|| {
                let values = elements.iter().filter_map(|e| constant(e).cloned()).collect();
                Expr::Const { value: Datum::Array(Array::from_values(element, values).into()), ty: *ty }
            }))
        }
        _ => Ok(None),
    };
    match folded {
        Ok(Some(new)) => *expr = new,
        Ok(None) => {}
        Err(_) if conditional => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn call_value(call: &Call, env: &dyn Environment) -> Result<Option<Expr>> {
    let null = |ty: Type| Ok(Some(Expr::Const { value: Datum::Null, ty }));
    if call.function.strict && call.args.iter().any(|arg| matches!(constant(arg), Some(Datum::Null))) {
        return null(call.ty);
    }
    if call.function.volatility != Volatility::Immutable || call.function.waits || call.function.system {
        return Ok(None);
    }
    let mut args = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        match constant(arg) {
            Some(value) => args.push(value.clone()),
            None => return Ok(None),
        }
    }
    let value = evaluate(call, &args, env)?;
    Ok(Some(Expr::Const { value, ty: call.ty }))
}

fn evaluate(call: &Call, args: &[Datum], env: &dyn Environment) -> Result<Datum> {
    let signature = Signature { args: call.args.iter().map(Expr::ty).collect(), result: call.ty };
    let mut state = match call.function.prepare {
        Some(prepare) => {
            let constants: Vec<Option<Datum>> = args.iter().cloned().map(Some).collect();
            prepare(&signature, &constants)?
        }
        None => None,
    };
    let mut site = function::Call { env, signature: &signature, state: &mut state };
    call.function.invoke(&mut site, args)
}

fn convert_value(convert: &Convert, env: &dyn Environment) -> Result<Option<Expr>> {
    let Some(value) = constant(&convert.input) else { return Ok(None) };
    let done = |value: Datum| Ok(Some(Expr::Const { value, ty: convert.to }));
    if value.is_null() {
        return done(Datum::Null);
    }
    match convert.kind {
        ConvertKind::Relabel => done(relabel_value(value.clone(), convert.to.oid)),
        ConvertKind::Typmod => done(value::text::apply_typmod(value.clone(), convert.to, convert.explicit)?),
        ConvertKind::InOut if text_is_fixed(convert.from.oid) && text_is_fixed(convert.to.oid) => {
            let text = value::text::output_string(value, convert.from.oid, env.style());
            done(value::text::input(Type::new(convert.to.oid), &text, env.style())?)
        }
        ConvertKind::InOut | ConvertKind::ArrayElements(_) => Ok(None),
    }
}

/// Types whose text form no setting and no catalog changes.
fn text_is_fixed(ty: Oid) -> bool {
    matches!(
        types::repr(ty),
        Repr::Bool
            | Repr::Int2
            | Repr::Int4
            | Repr::Int8
            | Repr::Numeric
            | Repr::Text
            | Repr::Uuid
            | Repr::Jsonb
    ) || ty == oid::OID
}

/// The value under another name of its type: integers and oids change their form in memory, others do not.
pub fn relabel_value(value: Datum, to: Oid) -> Datum {
    match (types::repr(to), value) {
        (Repr::Oid, Datum::Int4(v)) => Datum::Oid(v as u32),
        (Repr::Int4, Datum::Oid(v)) => Datum::Int4(v as i32),
        (Repr::Int8, Datum::Oid(v)) => Datum::Int8(i64::from(v)),
        (_, value) => value,
    }
}

/// CASE: arms that cannot be reached go.
fn fold_case(expr: &mut Expr, env: &dyn Environment, conditional: bool) -> Result<()> {
    let Expr::Case { whens, otherwise, ty } = expr else { return Ok(()) };
    let ty = *ty;
    let mut kept = Vec::with_capacity(whens.len());
    for (mut when, mut then) in std::mem::take(whens) {
        fold_expr(&mut when, env, conditional)?;
        match constant(&when) {
            Some(Datum::Bool(true)) => {
                fold_expr(&mut then, env, conditional)?;
                *otherwise = Some(Box::new(then));
                return finish_case(expr, kept, ty);
            }
            Some(Datum::Bool(false) | Datum::Null) => continue,
            _ => {}
        }
        fold_expr(&mut then, env, conditional)?;
        kept.push((when, then));
    }
    if let Some(otherwise) = otherwise {
        fold_expr(otherwise, env, conditional)?;
    }
    finish_case(expr, kept, ty)
}

fn finish_case(expr: &mut Expr, kept: Vec<(Expr, Expr)>, case_type: Type) -> Result<()> {
    let Expr::Case { whens, otherwise, .. } = expr else { return Ok(()) };
    if kept.is_empty() {
        *expr = match otherwise.take() {
            Some(otherwise) => *otherwise,
            None => Expr::Const { value: Datum::Null, ty: case_type },
        };
    } else {
        *whens = kept;
    }
    Ok(())
}

fn fold_coalesce(expr: &mut Expr, env: &dyn Environment, conditional: bool) -> Result<()> {
    let Expr::Coalesce { args, ty } = expr else { return Ok(()) };
    let mut kept: Vec<Expr> = Vec::with_capacity(args.len());
    for mut arg in std::mem::take(args) {
        fold_expr(&mut arg, env, conditional)?;
        match constant(&arg) {
            Some(Datum::Null) => continue,
            Some(_) => {
                kept.push(arg);
                break;
            }
            None => kept.push(arg),
        }
    }
    let ty = *ty;
    *expr = match kept.len() {
        0 => Expr::Const { value: Datum::Null, ty },
        1 => kept.remove(0),
        _ => Expr::Coalesce { args: kept, ty },
    };
    Ok(())
}

/// AND (`stop` false) and OR (`stop` true): `stop` decides the whole, its opposite drops out.
fn fold_logic(expr: &mut Expr, env: &dyn Environment, conditional: bool, stop: bool) -> Result<()> {
    let (Expr::And(list) | Expr::Or(list)) = expr else { return Ok(()) };
    let mut kept: Vec<Expr> = Vec::with_capacity(list.len());
    let mut null = false;
    for mut part in std::mem::take(list) {
        fold_expr(&mut part, env, conditional)?;
        match constant(&part) {
            Some(Datum::Bool(value)) if *value == stop => {
                *expr = boolean(stop);
                return Ok(());
            }
            Some(Datum::Bool(_)) => {}
            Some(Datum::Null) => {
                // NULL AND x is not x, but one NULL is as good as many.
                if !null {
                    null = true;
                    kept.push(take(&mut part));
                }
            }
            _ => kept.push(part),
        }
    }
    *expr = match kept.len() {
        0 => boolean(!stop),
        1 => kept.remove(0),
        _ if stop => Expr::Or(kept),
        _ => Expr::And(kept),
    };
    Ok(())
}
