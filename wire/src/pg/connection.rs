//! A session's loop: every whole message that came is carried out, its answers gather in the output, which
//! leaves when the input is drained. Simple and extended protocol meet in [`Connection::results`].
//!
//! Errors are of three kinds. A statement that fails is answered, and the rest of its batch is skipped. A client
//! that breaks the framing is told so and cut off. A panic ends this session alone with XX000: what it had begun
//! is rolled back when the session is dropped.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures::{FutureExt, poll};
use session::{Chunk, Column, CopyShape, Fetched, Session};
use value::{Error, Result};

use super::copy;
use super::encode;
use super::error;
use super::frame::{Frame, Message, Stage, Target, decode, violation};
use super::stream::{End, Fail, Link, Phase, WRITE_AT, shutdown_error};
use crate::metrics::Metrics;

/// How the results of a portal ended.
enum Outcome {
    Complete(String),
    Suspended,
    Empty,
}

/// The columns of a portal, `None` for one without rows.
type Columns = Option<Arc<[Column]>>;

/// One client after login.
pub struct Connection<'a> {
    link: &'a mut Link,
    session: Box<dyn Session>,
    metrics: &'a Metrics,
    /// An extended-protocol batch failed: everything up to its Sync is ignored.
    skipping: bool,
    /// The portal described last, so that the Execute that follows need not ask again.
    described: Option<(String, Columns)>,
}

/// XX000 for what a panic left; the panic's text goes along, for it is what a bug report needs.
pub fn panic_error(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string());
    Error::internal("the server failed while it carried out this statement; the session ends")
        .detail(format!("Panic: {text}"))
        .fatal()
}

impl<'a> Connection<'a> {
    pub fn new(link: &'a mut Link, session: Box<dyn Session>, metrics: &'a Metrics) -> Connection<'a> {
        Connection { link, session, metrics, skipping: false, described: None }
    }

    /// Serves the client until one side ends it. The session is gone afterwards.
    pub async fn run(mut self) -> End {
        let end = match AssertUnwindSafe(self.serve()).catch_unwind().await {
            Ok(end) => end,
            Err(panic) => End::Fatal(panic_error(panic.as_ref())),
        };
        let Connection { session, .. } = self;
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(session))) {
            tracing::error!(error = %panic_error(panic.as_ref()), "a session failed while it was closed");
        }
        end
    }

    async fn serve(&mut self) -> End {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// One message, or the wait for one.
    async fn step(&mut self) -> Result<(), End> {
        match self.link.reader.next(&self.link.limits, Stage::Session).map_err(End::Fatal)? {
            Some(frame) => {
                self.dispatch(&frame).await?;
                if self.link.output.waiting() >= WRITE_AT {
                    self.link.flush().await?;
                }
                Ok(())
            }
            None => {
                self.link.flush().await?;
                self.idle().await
            }
        }
    }

    async fn idle(&mut self) -> Result<(), End> {
        if self.link.phase() >= Phase::Draining {
            return Err(End::Fatal(shutdown_error()));
        }
        let link = &mut *self.link;
        if link.stream.linger()
            && let Poll::Ready(count) = poll!(pin!(link.reader.fill(&mut link.stream)))
        {
            return if count? == 0 { Err(End::Done) } else { Ok(()) };
        }
        let draining = async {
            // An error means that the server is gone, which ends the connection as well.
            let _ = link.phase.wait_for(|phase| *phase >= Phase::Draining).await;
        };
        tokio::select! {
            biased;
            count = link.reader.fill(&mut link.stream) => {
                if count? == 0 { Err(End::Done) } else { Ok(()) }
            }
            () = draining => Err(End::Fatal(shutdown_error())),
            event = self.session.idle() => {
                event.map_err(|error| End::Fatal(error.fatal()))?;
                self.notices();
                self.parameters();
                Ok(())
            }
        }
    }

    async fn dispatch(&mut self, frame: &Frame) -> Result<(), End> {
        if self.skipping && !matches!(frame.kind, b'S' | b'X') {
            return Ok(());
        }
        let result = match decode(frame) {
            Ok(message) => self.carry_out(message).await,
            Err(error) => {
                self.session.failed(&error);
                Err(Fail::from(error))
            }
        };
        match (result, frame.kind) {
            (Ok(()), _) => Ok(()),
            (Err(Fail::End(end)), _) => Err(end),
            // These are whole batches of their own.
            (Err(Fail::Statement(error)), b'Q' | b'F' | b'S') => {
                self.error(&error);
                self.skipping = false;
                self.sync().await
            }
            (Err(Fail::Statement(error)), _) => {
                self.error(&error);
                self.skipping = true;
                Ok(())
            }
        }
    }

    async fn carry_out(&mut self, message: Message<'_>) -> Result<(), Fail> {
        match message {
            Message::Query(text) => Ok(self.simple(text).await?),
            Message::Parse { name, text, types } => {
                self.link.during(self.session.parse(name, text, &types)).await?;
                self.bare(b'1');
                Ok(())
            }
            Message::Bind { portal, statement, parameters, results } => {
                self.described = None;
                self.link.during(self.session.bind(portal, statement, parameters, &results)).await?;
                self.bare(b'2');
                Ok(())
            }
            Message::Describe(Target::Statement, name) => {
                let description = self.link.during(self.session.describe_statement(name)).await?;
                self.notices();
                encode::parameter_description(&mut self.link.output.bytes, &description.parameters);
                self.describe(description.columns.as_deref());
                Ok(())
            }
            Message::Describe(Target::Portal, name) => {
                let columns = self.link.during(self.session.describe_portal(name)).await?;
                self.notices();
                self.describe(columns.as_deref());
                self.described = Some((name.to_string(), columns));
                Ok(())
            }
            Message::Execute { portal, max_rows } => self.execute(portal, max_rows).await,
            Message::Close(target, name) => {
                self.described = None;
                match target {
                    Target::Statement => self.session.close_statement(name),
                    Target::Portal => self.session.close_portal(name),
                }
                self.bare(b'3');
                Ok(())
            }
            Message::Sync => {
                self.skipping = false;
                Ok(self.sync().await?)
            }
            Message::Flush => Ok(self.link.flush().await?),
            Message::Terminate => Err(Fail::End(End::Done)),
            Message::FunctionCall => {
                let error = Error::unsupported("the function call message", "Call the function with SELECT.");
                self.session.failed(&error);
                Err(error.into())
            }
            // The rest of a COPY that failed.
            Message::CopyData | Message::CopyDone | Message::CopyFail(_) => Ok(()),
        }
    }

    /// A query string: each statement answers before the next begins; the tag of the last one waits until the
    /// implicit transaction is committed, because that may fail.
    async fn simple(&mut self, text: &str) -> Result<(), End> {
        self.described = None;
        let (mut tag, mut failed) = match self.statements(text).await {
            Ok(tag) => (tag, false),
            Err(Fail::Statement(error)) => {
                self.error(&error);
                (None, true)
            }
            Err(Fail::End(end)) => return Err(end),
        };
        match self.link.during(self.session.simple_end()).await {
            Ok(()) => {}
            Err(Fail::Statement(error)) if failed => {
                tracing::warn!(%error, "a failed query string could not be ended cleanly");
            }
            Err(Fail::Statement(error)) => {
                self.error(&error);
                failed = true;
            }
            Err(Fail::End(end)) => return Err(end),
        }
        self.notices();
        if let (Some(tag), false) = (tag.take(), failed) {
            encode::command_complete(&mut self.link.output.bytes, &tag);
        }
        self.ready();
        Ok(())
    }

    /// Runs the statements of a query string; gives the tag of the last.
    async fn statements(&mut self, text: &str) -> Result<Option<String>, Fail> {
        let count = self.link.during(self.session.simple_start(text)).await?;
        if count == 0 {
            self.bare(b'I');
        }
        let mut last = None;
        for index in 0..count {
            let started = Instant::now();
            let columns = self.link.during(self.session.simple_next()).await?;
            self.notices();
            if let Some(columns) = &columns {
                self.describe(Some(columns));
            }
            match self.results("", 0, columns).await? {
                Outcome::Complete(tag) => {
                    self.metrics.statement(&tag, started.elapsed());
                    if index + 1 < count {
                        encode::command_complete(&mut self.link.output.bytes, &tag);
                        self.link.output.end_message();
                    } else {
                        last = Some(tag);
                    }
                }
                Outcome::Empty => self.bare(b'I'),
                Outcome::Suspended => {
                    return Err(Error::internal("a statement without a row limit was suspended").into());
                }
            }
        }
        Ok(last)
    }

    async fn execute(&mut self, portal: &str, max_rows: usize) -> Result<(), Fail> {
        let started = Instant::now();
        let columns = match self.described.take() {
            Some((name, columns)) if name == portal => columns,
            _ => self.link.during(self.session.describe_portal(portal)).await?,
        };
        match self.results(portal, max_rows, columns).await? {
            Outcome::Complete(tag) => {
                self.metrics.statement(&tag, started.elapsed());
                encode::command_complete(&mut self.link.output.bytes, &tag);
                self.link.output.end_message();
            }
            Outcome::Suspended => self.bare(b's'),
            Outcome::Empty => self.bare(b'I'),
        }
        Ok(())
    }

    /// Sends what a portal gives, part by part.
    async fn results(&mut self, portal: &str, max_rows: usize, columns: Columns) -> Result<Outcome, Fail> {
        let columns = columns.as_deref().unwrap_or_default();
        let mut copying = None;
        loop {
            let fetched = self.link.during(self.session.fetch(portal, max_rows)).await;
            self.notices();
            match fetched? {
                Fetched::Chunk(chunk) => {
                    if let Err(fail) = self.chunk(&chunk, columns).await {
                        if let Fail::Statement(error) = &fail {
                            self.session.failed(error);
                        }
                        return Err(fail);
                    }
                }
                Fetched::CopyIn(shape) => return Ok(Outcome::Complete(self.copy_in(shape).await?)),
                Fetched::CopyOut(shape) => {
                    encode::copy_response(&mut self.link.output.bytes, b'H', shape);
                    self.link.output.end_message();
                    copying = Some(shape.format);
                }
                Fetched::CopyData(data) => {
                    copy::data(&mut self.link.output, copying.unwrap_or_default(), &data);
                }
                Fetched::Suspended => return Ok(Outcome::Suspended),
                Fetched::Complete(tag) => {
                    if copying.is_some() {
                        self.bare(b'c');
                    }
                    return Ok(Outcome::Complete(tag));
                }
                Fetched::Empty => return Ok(Outcome::Empty),
            }
            if self.link.output.waiting() >= WRITE_AT {
                self.link.flush().await?;
            }
        }
    }

    /// Rows of any width in pieces of the size that leaves at once.
    async fn chunk(&mut self, chunk: &Chunk, columns: &[Column]) -> Result<(), Fail> {
        let style = self.session.style();
        let count = match chunk {
            Chunk::Rows(rows) => rows.count,
            Chunk::Batch(batch) => batch.num_rows(),
        };
        let mut next = 0;
        while next < count {
            let output = &mut self.link.output;
            next = match chunk {
                Chunk::Rows(rows) => encode::rows(output, columns, &style, rows, next, WRITE_AT)?,
                Chunk::Batch(batch) => encode::batch(output, columns, &style, batch, next, WRITE_AT)?,
            };
            if output.waiting() >= WRITE_AT {
                self.link.flush().await?;
            }
        }
        Ok(())
    }

    /// COPY FROM STDIN: the client speaks until it is done or gives up. Its tag.
    async fn copy_in(&mut self, shape: CopyShape) -> Result<String, Fail> {
        encode::copy_response(&mut self.link.output.bytes, b'G', shape);
        self.link.output.end_message();
        loop {
            let frame = self.link.frame(Stage::Session).await?;
            match frame.kind {
                b'd' => self.link.during(self.session.copy_data(frame.body)).await?,
                b'c' => {
                    let tag = self.link.during(self.session.copy_done()).await;
                    self.notices();
                    return tag;
                }
                b'f' => {
                    let Message::CopyFail(reason) = decode(&frame)? else {
                        return Err(violation("malformed CopyFail message").into());
                    };
                    return Err(self.session.copy_fail(&reason).into());
                }
                // Drivers send these behind Execute before they know that a COPY began.
                b'H' | b'S' => {}
                b'X' => return Err(Fail::End(End::Done)),
                kind => {
                    let error =
                        violation(format!("unexpected message type 0x{kind:02X} during COPY from stdin"));
                    // What the session makes of it is the same failure; the client hears the cause.
                    let _ = self.session.copy_fail(error.message());
                    return Err(error.into());
                }
            }
        }
    }

    /// Ends a batch.
    async fn sync(&mut self) -> Result<(), End> {
        self.described = None;
        match self.link.during(self.session.sync()).await {
            Ok(()) => {}
            Err(Fail::Statement(error)) => self.error(&error),
            Err(Fail::End(end)) => return Err(end),
        }
        self.ready();
        Ok(())
    }

    fn ready(&mut self) {
        self.notices();
        self.parameters();
        encode::ready_for_query(&mut self.link.output.bytes, self.session.transaction_status());
        self.link.output.end_answer();
    }

    fn bare(&mut self, kind: u8) {
        self.notices();
        encode::bare(&mut self.link.output.bytes, kind);
        self.link.output.end_message();
    }

    /// RowDescription or NoData.
    fn describe(&mut self, columns: Option<&[Column]>) {
        match columns {
            Some(columns) => encode::row_description(&mut self.link.output.bytes, columns),
            None => encode::bare(&mut self.link.output.bytes, b'n'),
        }
        self.link.output.end_message();
    }

    fn error(&mut self, error: &Error) {
        self.metrics.error(error);
        self.link.output.cut_incomplete();
        self.notices();
        error::respond(&mut self.link.output.bytes, error, false);
        self.link.output.end_message();
    }

    fn notices(&mut self) {
        for notice in self.session.notices() {
            error::notice(&mut self.link.output.bytes, notice.severity, &notice.error);
            self.link.output.end_message();
        }
    }

    fn parameters(&mut self) {
        for (name, value) in self.session.changed_parameters() {
            encode::parameter_status(&mut self.link.output.bytes, name, &value);
            self.link.output.end_message();
        }
    }
}
