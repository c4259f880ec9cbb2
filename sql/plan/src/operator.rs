//! What operators mean to the planner: which comparison a call is, and the same comparison with other sides.

use std::collections::HashMap;
use std::sync::LazyLock;

use function::{Function, Strategy};
use resolve::tree::{Call, Expr};
use value::Oid;

static STRATEGIES: LazyLock<HashMap<Oid, Strategy>> = LazyLock::new(|| {
    function::operators().filter_map(|operator| Some((operator.function.oid, operator.class?))).collect()
});

/// Which comparison of an ordered type the function is.
pub fn strategy(function: &Function) -> Option<Strategy> {
    STRATEGIES.get(&function.oid).copied()
}

/// A binary comparison: its function and its two sides.
pub fn comparison(expr: &Expr) -> Option<(&'static Function, &Expr, &Expr)> {
    match expr {
        Expr::Call(call) if call.args.len() == 2 && strategy(call.function).is_some() => {
            Some((call.function, &call.args[0], &call.args[1]))
        }
        _ => None,
    }
}

/// `template` (an equality) with these sides instead, put the way round that the types of its own sides ask for.
pub fn with_sides(template: Expr, a: Expr, b: Expr) -> Option<Expr> {
    let Expr::Call(call) = template else { return None };
    let Call { function, args, ty, position, operator } = *call;
    let straight = args.first()?.ty().oid == a.ty().oid;
    let args = if straight { vec![a, b] } else { vec![b, a] };
    Some(Expr::Call(Box::new(Call { function, args, ty, position, operator })))
}
