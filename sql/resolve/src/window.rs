//! Windows: OVER, the WINDOW clause, frames.

use sqlparser::ast::{self, NamedWindowExpr, WindowFrameBound, WindowFrameUnits, WindowType};
use sqlparser::tokenizer::Location;
use value::types::{self, Repr, oid};
use value::{Error, Result, SqlState};

use crate::call::order_options;
use crate::names::identifier;
use crate::parse::marker;
use crate::same::{orders, same};
use crate::scope::{Clause, NamedWindow, Resolver, start};
use crate::tree::{Expr, Frame, FrameBound, FrameExclude, FrameUnit, Window, WindowOrder};
use crate::walk;

impl Resolver<'_> {
    /// The WINDOW clause; a definition may build on those before it.
    pub fn named_windows(&mut self, list: &[ast::NamedWindowDefinition]) -> Result<()> {
        for ast::NamedWindowDefinition(ident, definition) in list {
            let name = identifier(ident);
            let place = ident.span.start;
            if self.here().window_names.iter().any(|(other, _)| *other == name) {
                return Err(self.error(
                    SqlState::WINDOWING_ERROR,
                    format!("window \"{name}\" is already defined"),
                    place,
                ));
            }
            let window = match definition {
                NamedWindowExpr::NamedWindow(base) => {
                    self.window_named(&identifier(base), base.span.start)?
                }
                NamedWindowExpr::WindowSpec(spec) => self.window_spec(spec, place)?,
            };
            self.top().window_names.push((name, window));
        }
        Ok(())
    }

    fn window_named(&self, name: &str, place: Location) -> Result<NamedWindow> {
        match self.here().window_names.iter().find(|(other, _)| other == name) {
            Some((_, window)) => Ok(window.clone()),
            None => Err(self.error(
                SqlState::UNDEFINED_OBJECT,
                format!("window \"{name}\" does not exist"),
                place,
            )),
        }
    }

    /// What OVER says.
    pub fn window_of(&mut self, over: &WindowType, place: Location) -> Result<Window> {
        match over {
            WindowType::NamedWindow(name) => {
                Ok(self.window_named(&identifier(name), name.span.start)?.window)
            }
            WindowType::WindowSpec(spec) => Ok(self.window_spec(spec, place)?.window),
        }
    }

    fn window_spec(&mut self, spec: &ast::WindowSpec, place: Location) -> Result<NamedWindow> {
        let mut exclude = FrameExclude::NoOthers;
        let mut base: Option<(String, NamedWindow)> = None;
        if let Some(ident) = &spec.window_name {
            let mut name = identifier(ident);
            if let Some(marked) = ident.value.strip_prefix(marker::EXCLUDE) {
                let (what, rest) = marked.split_once(':').unwrap_or((marked, ""));
                exclude = match what {
                    "current_row" => FrameExclude::CurrentRow,
                    "group" => FrameExclude::Group,
                    "ties" => FrameExclude::Ties,
                    _ => FrameExclude::NoOthers,
                };
                name = rest.to_owned();
            }
            if !name.is_empty() {
                let window = self.window_named(&name, ident.span.start)?;
                base = Some((name, window));
            }
        }
        let mut partition_by = Vec::with_capacity(spec.partition_by.len());
        for expr in &spec.partition_by {
            let key = self.in_clause(Clause::WindowPartition, |this| this.expr(expr))?;
            let key = self.known(key)?;
            self.no_windows(&key, start(expr))?;
            let comparable = self.comparable(&key);
            self.locate(comparable, start(expr))?;
            partition_by.push(key);
        }
        let mut order_by = Vec::with_capacity(spec.order_by.len());
        for item in &spec.order_by {
            let at = start(&item.expr);
            let key = self.in_clause(Clause::WindowOrder, |this| this.expr(&item.expr))?;
            let key = self.known(key)?;
            self.no_windows(&key, at)?;
            self.orderable(&key, at)?;
            let (descending, nulls_first) = self.locate(order_options(&item.options), at)?;
            order_by.push(WindowOrder { expr: key, descending, nulls_first });
        }
        if let Some((name, base)) = &base {
            let refuse = |what: &str| {
                Err(self.error(
                    SqlState::WINDOWING_ERROR,
                    format!("cannot override {what} clause of window \"{name}\""),
                    place,
                ))
            };
            if !partition_by.is_empty() {
                return refuse("PARTITION BY");
            }
            if !order_by.is_empty() && !base.window.order_by.is_empty() {
                return refuse("ORDER BY");
            }
            if base.has_frame {
                let error = self.error(
                    SqlState::WINDOWING_ERROR,
                    format!("cannot copy window \"{name}\" because it has a frame clause"),
                    place,
                );
                let bare = order_by.is_empty() && spec.window_frame.is_none();
                return Err(if bare {
                    error.hint("Omit the parentheses in this OVER clause.")
                } else {
                    error
                });
            }
            partition_by = base.window.partition_by.clone();
            if order_by.is_empty() {
                order_by = base.window.order_by.clone();
            }
        }
        let frame = self.frame(spec.window_frame.as_ref(), exclude, &order_by, place)?;
        let has_frame = spec.window_frame.is_some();
        Ok(NamedWindow { window: Window { partition_by, order_by, frame }, has_frame })
    }

    fn no_windows(&self, expr: &Expr, place: Location) -> Result<()> {
        if walk::any(expr, &|e| matches!(e, Expr::Window(_))) {
            return Err(self.error(
                SqlState::WINDOWING_ERROR,
                "window functions are not allowed in window definitions",
                place,
            ));
        }
        Ok(())
    }

    fn frame(
        &mut self,
        frame: Option<&ast::WindowFrame>,
        exclude: FrameExclude,
        order_by: &[WindowOrder],
        place: Location,
    ) -> Result<Frame> {
        let Some(frame) = frame else {
            return Ok(Frame {
                unit: FrameUnit::Range,
                start: FrameBound::UnboundedPreceding,
                end: FrameBound::CurrentRow,
                exclude,
            });
        };
        let unit = match frame.units {
            WindowFrameUnits::Rows => FrameUnit::Rows,
            WindowFrameUnits::Range => FrameUnit::Range,
            WindowFrameUnits::Groups => FrameUnit::Groups,
        };
        let problem = |this: &Self, message: &str| Err(this.error(SqlState::WINDOWING_ERROR, message, place));
        if unit == FrameUnit::Groups && order_by.is_empty() {
            return problem(self, "GROUPS mode requires an ORDER BY clause");
        }
        let end_bound = frame.end_bound.as_ref().unwrap_or(&WindowFrameBound::CurrentRow);
        if let WindowFrameBound::Following(None) = frame.start_bound {
            return problem(self, "frame start cannot be UNBOUNDED FOLLOWING");
        }
        if let WindowFrameBound::Preceding(None) = end_bound {
            return problem(self, "frame end cannot be UNBOUNDED PRECEDING");
        }
        match (&frame.start_bound, end_bound) {
            (WindowFrameBound::CurrentRow, WindowFrameBound::Preceding(_)) => {
                return problem(self, "frame starting from current row cannot have preceding rows");
            }
            (WindowFrameBound::Following(Some(_)), WindowFrameBound::CurrentRow) => {
                return problem(self, "frame starting from following row cannot end with current row");
            }
            (WindowFrameBound::Following(Some(_)), WindowFrameBound::Preceding(_)) => {
                return problem(self, "frame starting from following row cannot have preceding rows");
            }
            _ => {}
        }
        let start = self.bound(&frame.start_bound, unit, order_by, place)?;
        let end = self.bound(end_bound, unit, order_by, place)?;
        Ok(Frame { unit, start, end, exclude })
    }

    fn bound(
        &mut self,
        bound: &WindowFrameBound,
        unit: FrameUnit,
        order_by: &[WindowOrder],
        place: Location,
    ) -> Result<FrameBound> {
        let (offset, preceding) = match bound {
            WindowFrameBound::CurrentRow => return Ok(FrameBound::CurrentRow),
            WindowFrameBound::Preceding(None) => return Ok(FrameBound::UnboundedPreceding),
            WindowFrameBound::Following(None) => return Ok(FrameBound::UnboundedFollowing),
            WindowFrameBound::Preceding(Some(offset)) => (offset, true),
            WindowFrameBound::Following(Some(offset)) => (offset, false),
        };
        let at = start(offset);
        // '1 day' PRECEDING is parsed as an interval without its keyword: the literal is what was written.
        let written = match &**offset {
            ast::Expr::Interval(interval) if unit != FrameUnit::Range && interval.leading_field.is_none() => {
                &*interval.value
            }
            other => other,
        };
        let resolved = self.in_clause(Clause::WindowFrame, |this| this.expr(written))?;
        if walk::any(&resolved, &|e| matches!(e, Expr::Column { levels_up: 0, .. })) {
            let name = match unit {
                FrameUnit::Rows => "ROWS",
                FrameUnit::Range => "RANGE",
                FrameUnit::Groups => "GROUPS",
            };
            return Err(self.error(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("argument of {name} must not contain variables"),
                at,
            ));
        }
        let target = match unit {
            FrameUnit::Rows => (oid::INT8, "ROWS"),
            FrameUnit::Groups => (oid::INT8, "GROUPS"),
            FrameUnit::Range => {
                let [order] = order_by else {
                    return Err(self.error(
                        SqlState::WINDOWING_ERROR,
                        "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
                        place,
                    ));
                };
                let key = order.expr.ty().oid;
                let target = match types::repr(key) {
                    Repr::Int2 | Repr::Int4 | Repr::Int8 => oid::INT8,
                    Repr::Float4 | Repr::Float8 => oid::FLOAT8,
                    Repr::Numeric => oid::NUMERIC,
                    Repr::Date | Repr::Time | Repr::Timestamp | Repr::TimestampTz | Repr::Interval => {
                        oid::INTERVAL
                    }
                    _ => {
                        return Err(Error::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            format!(
                                "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {}",
                                types::format_type(key, -1)
                            ),
                        )
                        .at(self.position(at)));
                    }
                };
                (target, "RANGE")
            }
        };
        let offset = Box::new(self.must_be(resolved, target.0, target.1, at)?);
        Ok(if preceding { FrameBound::Preceding(offset) } else { FrameBound::Following(offset) })
    }
}

/// Whether two windows are the same, so that one sort serves both.
pub(crate) fn same_window(a: &Window, b: &Window) -> bool {
    let bound = |a: &FrameBound, b: &FrameBound| match (a, b) {
        (FrameBound::UnboundedPreceding, FrameBound::UnboundedPreceding)
        | (FrameBound::CurrentRow, FrameBound::CurrentRow)
        | (FrameBound::UnboundedFollowing, FrameBound::UnboundedFollowing) => true,
        (FrameBound::Preceding(a), FrameBound::Preceding(b))
        | (FrameBound::Following(a), FrameBound::Following(b)) => same(a, b),
        _ => false,
    };
    a.partition_by.len() == b.partition_by.len()
        && a.partition_by.iter().zip(&b.partition_by).all(|(a, b)| same(a, b))
        && orders(&a.order_by, &b.order_by)
        && a.frame.unit == b.frame.unit
        && a.frame.exclude == b.frame.exclude
        && bound(&a.frame.start, &b.frame.start)
        && bound(&a.frame.end, &b.frame.end)
}
