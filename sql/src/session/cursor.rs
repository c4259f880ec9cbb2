//! SQL cursors: DECLARE, FETCH, MOVE, CLOSE.
//!
//! Rows that have passed are kept while the cursor may be asked to go back; a held cursor is read to its end when
//! its transaction commits.

use std::collections::VecDeque;
use std::sync::Arc;

use session::{Chunk, Fetched, Rows};
use value::{Datum, Error, Result, SqlState, datetime};

use super::{Outcome, Portal, PortalState, Session};
use crate::plan_cache::CommandKind;
use crate::shared::CursorInfo;
use crate::statement::{Direction, Fragment, Statement};

/// Rows kept for going back when SCROLL was not asked for.
const KEPT: usize = 100_000;

pub struct SqlCursor {
    hold: bool,
    /// The transaction that declared it has committed.
    held: bool,
    scroll: Option<bool>,
    /// Rows read so far, unless it may not go back.
    rows: Vec<Vec<Datum>>,
    keeps: bool,
    /// Rows read so far in all.
    read: usize,
    /// Everything was read.
    ended: bool,
    /// 0: before the first row; n: on row n; `read + 1`: behind the last.
    position: usize,
}

impl SqlCursor {
    /// Whether it lives on after its transaction.
    pub fn survives(&self, committed: bool) -> bool {
        self.held || (committed && self.hold)
    }

    pub fn held(&self) -> bool {
        self.held
    }
}

impl Session {
    pub(crate) async fn declare(
        &mut self,
        name: &str,
        hold: bool,
        scroll: Option<bool>,
        binary: bool,
        query: &Fragment,
        text: &Arc<str>,
    ) -> Result<Outcome> {
        if !hold && !self.in_block() {
            return Err(Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.portals.contains_key(name) && !name.is_empty() {
            return Err(Error::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
        }
        let parsed = self.fragment(query)?;
        let Statement::Query(tree) = &*parsed.statement else {
            return Err(Error::new(
                SqlState::INVALID_CURSOR_DEFINITION,
                "DECLARE CURSOR must specify a query",
            ));
        };
        let tree = tree.clone();
        let prepared = Arc::new(self.prepare("", Some(parsed.clone()), &[])?);
        if !prepared.types.is_empty() {
            return Err(Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
        }
        let (state, _) = self.open_query(&parsed, &tree, &prepared, Arc::from([]), None).await?;
        let kind = match &state {
            PortalState::Reading { kind, .. }
            | PortalState::Streaming { kind, .. }
            | PortalState::Driving { kind, .. } => *kind,
            _ => CommandKind::Select,
        };
        if kind != CommandKind::Select {
            return Err(Error::new(
                SqlState::INVALID_CURSOR_DEFINITION,
                "DECLARE CURSOR must not contain data-modifying statements in WITH",
            ));
        }
        let mut columns = prepared.columns.clone();
        if binary && let Some(columns) = &mut columns {
            let changed =
                columns.iter().map(|c| session::Column { format: session::Format::Binary, ..c.clone() });
            *columns = changed.collect();
        }
        let mut portal = Portal::new(prepared, Arc::from([]), columns);
        portal.state = state;
        portal.cursor = Some(Box::new(SqlCursor {
            hold,
            held: false,
            scroll,
            rows: Vec::new(),
            keeps: scroll != Some(false) || hold,
            read: 0,
            ended: false,
            position: 0,
        }));
        self.portals.insert(name.to_string(), portal);
        self.shared.cursors.lock().push(CursorInfo {
            name: name.to_string(),
            text: text.clone(),
            hold,
            binary,
            scroll: scroll == Some(true),
            created_at: datetime::now(),
        });
        Ok(Outcome::Tag("DECLARE CURSOR".into()))
    }

    pub(crate) async fn fetch_cursor(
        &mut self,
        name: &str,
        direction: Direction,
        movement: bool,
    ) -> Result<Outcome> {
        let Some(mut portal) = self.portals.remove(name) else {
            return Err(Error::new(
                SqlState::INVALID_CURSOR_NAME,
                format!("cursor \"{name}\" does not exist"),
            ));
        };
        if portal.cursor.is_none() {
            self.portals.insert(name.to_string(), portal);
            return Err(Error::new(
                SqlState::INVALID_CURSOR_NAME,
                format!("cursor \"{name}\" does not exist"),
            ));
        }
        let rows = step(self, &mut portal, direction).await;
        self.portals.insert(name.to_string(), portal);
        let rows = rows?;
        if movement {
            return Ok(Outcome::Tag(format!("MOVE {}", rows.len())));
        }
        Ok(Outcome::Counted { rows, tag: "FETCH".into() })
    }

    pub(crate) fn close_cursor(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            None => {
                self.portals.retain(|_, portal| portal.cursor.is_none());
                self.shared.cursors.lock().clear();
                Ok(Outcome::Tag("CLOSE CURSOR ALL".into()))
            }
            Some(name) => {
                if self.portals.get(name).is_none_or(|p| p.cursor.is_none()) {
                    return Err(Error::new(
                        SqlState::INVALID_CURSOR_NAME,
                        format!("cursor \"{name}\" does not exist"),
                    ));
                }
                self.portals.remove(name);
                self.shared.cursors.lock().retain(|c| c.name != name);
                Ok(Outcome::Tag("CLOSE CURSOR".into()))
            }
        }
    }

    /// Reads cursors WITH HOLD to their end before their transaction goes.
    pub(crate) async fn hold_cursors(&mut self) -> Result<()> {
        let names: Vec<String> = self
            .portals
            .iter()
            .filter(|(_, p)| p.cursor.as_ref().is_some_and(|c| c.hold && !c.held))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(mut portal) = self.portals.remove(&name) else { continue };
            let result = read_to(self, &mut portal, usize::MAX).await;
            if let Some(cursor) = &mut portal.cursor {
                cursor.held = true;
            }
            portal.state = PortalState::Done;
            self.portals.insert(name, portal);
            result?;
        }
        Ok(())
    }
}

/// Reads until `wanted` rows are there or no more come.
async fn read_to(session: &mut Session, portal: &mut Portal, wanted: usize) -> Result<()> {
    loop {
        let Some(cursor) = &portal.cursor else { return Ok(()) };
        if cursor.ended || cursor.read >= wanted {
            return Ok(());
        }
        let room = (wanted - cursor.read).min(1000);
        let more = session.rows_of(&mut portal.state, room).await?;
        let Some(cursor) = &mut portal.cursor else { return Ok(()) };
        match more {
            None => cursor.ended = true,
            Some(rows) => {
                cursor.read += rows.count;
                let width = rows.columns;
                let mut values = rows.values.into_iter();
                for _ in 0..rows.count {
                    cursor.rows.push(values.by_ref().take(width).collect());
                }
            }
        }
    }
}

/// Moves a cursor and gives the rows it passed (forward and backward) or stands on.
async fn step(
    session: &mut Session,
    portal: &mut Portal,
    direction: Direction,
) -> Result<VecDeque<Vec<Datum>>> {
    let position = portal.cursor.as_ref().map_or(0, |c| c.position);
    let target = match direction {
        Direction::Relative(0) | Direction::Offset(0) => position as i64,
        Direction::Relative(i64::MAX) => i64::MAX,
        Direction::Relative(n) if n == -i64::MAX => 0,
        Direction::Relative(n) | Direction::Offset(n) => (position as i64).saturating_add(n),
        Direction::Absolute(n) if n >= 0 => n,
        Direction::Absolute(n) => {
            read_to(session, portal, usize::MAX).await?;
            let read = portal.cursor.as_ref().map_or(0, |c| c.read) as i64;
            (read + 1 + n).max(0)
        }
    };
    let target = usize::try_from(target.max(0)).unwrap_or(usize::MAX);
    let backward = target < position || matches!(direction, Direction::Relative(0) | Direction::Offset(0));
    let Some(cursor) = &portal.cursor else { return Err(Error::internal("no cursor")) };
    if backward && (target < position && !cursor.keeps || cursor.scroll == Some(false)) {
        return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
            .hint("Declare it with SCROLL option to enable backward scan."));
    }
    read_to(session, portal, target).await?;
    let Some(cursor) = &mut portal.cursor else { return Err(Error::internal("no cursor")) };
    let first = cursor.read - cursor.rows.len();
    let row = |n: usize| n.checked_sub(1 + first).and_then(|n| cursor.rows.get(n)).cloned();
    let single = matches!(direction, Direction::Absolute(_) | Direction::Offset(_) | Direction::Relative(0));
    let mut out = VecDeque::new();
    if single {
        out.extend(row(target));
    } else if target > position {
        out.extend((position + 1..=target.min(cursor.read)).filter_map(row));
    } else {
        let last = target.max(1);
        let from = position.min(cursor.read + 1).saturating_sub(1);
        out.extend((last..=from).rev().filter_map(row));
    }
    cursor.position = target.min(cursor.read + 1);
    // What can no longer be asked for is let go.
    if !cursor.keeps || (cursor.scroll.is_none() && !cursor.hold && cursor.rows.len() > KEPT) {
        cursor.keeps = false;
        let keep = cursor.position.saturating_sub(1).saturating_sub(first).min(cursor.rows.len());
        cursor.rows.drain(..keep);
    }
    Ok(out)
}

/// Execute of the protocol on a declared cursor.
pub(super) async fn fetch_as_portal(
    session: &mut Session,
    portal: &mut Portal,
    max_rows: usize,
) -> Result<Fetched> {
    let n = if max_rows == 0 { 512 } else { (max_rows - portal.given.min(max_rows)).min(512) };
    if max_rows > 0 && portal.given >= max_rows {
        portal.given = 0;
        return Ok(Fetched::Suspended);
    }
    let rows = step(session, portal, Direction::Relative(n as i64)).await?;
    if rows.is_empty() {
        let given = std::mem::take(&mut portal.given);
        return Ok(Fetched::Complete(format!("FETCH {given}")));
    }
    portal.given += rows.len();
    let columns = rows.front().map_or(0, Vec::len);
    let count = rows.len();
    Ok(Fetched::Chunk(Chunk::Rows(Rows { columns, count, values: rows.into_iter().flatten().collect() })))
}
