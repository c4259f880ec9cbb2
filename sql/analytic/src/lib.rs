//! The vectorised executor: plan nodes run by DataFusion over Arrow batches.
//!
//! ```text
//! Analytic::run(plan, context)
//!   lower     plan nodes -> operators; WITH queries and uncorrelated subplans are computed first
//!   leaf      tables as batches, by chunks of row ids that the threads share out; steps of the row executor
//!   vector    expressions over columns: kernels, and the row executor's code for everything else
//!   aggregate states of aggregates by group
//!   memory    operators' memory, charged to the statement
//! ```
//! Work happens on a runtime of its own whose threads have a lower priority than those that serve short statements;
//! batches cross a bounded channel, so a slow client stops the work.
//!
//! Invariant: whatever a query gives here it gives in the row executor too, errors included; only the order of rows that
//! no ORDER BY fixes, the last digits of sums of floats, and which of several equal values (1.0, 1.00) stands for its
//! group may differ.

mod aggregate;
mod compute;
mod error;
mod leaf;
mod lower;
mod memory;
mod vector;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use execute::{BatchStream, Cancel, Context, Vectorised};
use futures::{StreamExt, stream};
use plan::ir::Plan;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use value::{Error, Result, SqlState};

use crate::error::{Failure, inward};
use crate::lower::Lowering;
use crate::memory::AccountPool;

/// Batches that may wait for a slow reader.
const WAITING: usize = 4;
/// Least bytes that an operator may hold before it is made to spill: below, files would be tiny.
const LEAST_SPILL: u64 = 8 << 20;

/// How the vectorised executor runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, and partitions of a plan.
    pub cores: usize,
    /// Where operators spill: a directory of its own, emptied at the start. Below the data directory.
    pub spill_directory: PathBuf,
    /// Most bytes in the spill directory.
    pub spill_limit: u64,
    /// Bytes one operator that can spill may hold, when the session's `work_mem` is less.
    pub spill_at: u64,
    /// Build sides of joins with (estimated) fewer rows are one hash table that all threads probe; larger ones are split by
    /// key, so that all threads build.
    pub split_build: f64,
}

impl Options {
    /// One thread per core, 100 GB of spill, operators of 64 MB.
    pub fn new(spill_directory: impl Into<PathBuf>) -> Options {
        Options {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            spill_directory: spill_directory.into(),
            spill_limit: 100 << 30,
            spill_at: 64 << 20,
            split_build: 100_000.0,
        }
    }
}

/// The vectorised executor of a database.
pub struct Analytic {
    /// Taken when dropped: a runtime must not be waited for inside of another.
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
}

struct Shared {
    environment: RuntimeEnv,
    config: SessionConfig,
    options: Options,
}

impl fmt::Debug for Analytic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analytic").field("options", &self.shared.options).finish()
    }
}

impl Drop for Analytic {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Analytic {
    /// Starts the threads. Errors: 58030 when they or the spill directory cannot be made.
    pub fn new(options: Options) -> Result<Analytic> {
        let failed =
            |what: &str, error: &dyn fmt::Display| Error::new(SqlState::IO_ERROR, format!("{what}: {error}"));
        let cores = options.cores.max(1);
        // Whatever is there was left by a crash.
        match std::fs::remove_dir_all(&options.spill_directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("could not empty the spill directory", &error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&options.spill_directory)
            .map_err(|error| failed("could not create the spill directory", &error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("analytic")
            .thread_stack_size(16 << 20)
            .on_thread_start(|| {
                // Short statements come first. Not being allowed to is no reason to stop.
                if let Err(error) = rustix::process::setpriority_process(None, 10) {
                    tracing::debug!("analytic thread keeps its priority: {error}");
                }
            })
            .build()
            .map_err(|error| failed("could not start the analytic threads", &error))?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![options.spill_directory.clone()]))
            .with_max_temp_directory_size(options.spill_limit);
        let environment = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .build()
            .map_err(|error| failed("could not prepare the spill directory", &error))?;
        let config = SessionConfig::new().with_batch_size(leaf::BATCH).with_target_partitions(cores);
        let shared = Arc::new(Shared { environment, config, options: Options { cores, ..options } });
        Ok(Analytic { runtime: Some(runtime), shared })
    }
}

impl Shared {
    fn task(&self, context: &Context) -> Arc<TaskContext> {
        let spill_at = context.memory.work().max(self.options.spill_at).max(LEAST_SPILL);
        let environment = RuntimeEnv {
            memory_pool: Arc::new(AccountPool::new(context.memory.clone(), spill_at as usize)),
            disk_manager: self.environment.disk_manager.clone(),
            cache_manager: self.environment.cache_manager.clone(),
            object_store_registry: self.environment.object_store_registry.clone(),
        };
        Arc::new(TaskContext::new(
            None,
            String::new(),
            self.config.clone(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::new(environment),
        ))
    }

    /// Runs the plan once; `sent` says whether a batch has left when it fails.
    async fn attempt(
        &self,
        plan: &Arc<Plan>,
        context: &Context,
        optimistic: bool,
        out: &mpsc::Sender<Result<RecordBatch>>,
        sent: &mut bool,
    ) -> std::result::Result<(), Failure> {
        let task = self.task(context);
        let lowering = Lowering::new(plan, context, task.clone(), &self.options, optimistic);
        let (exec, _held) = lowering.run().await?;
        tracing::debug!("{}", datafusion::physical_plan::displayable(&*exec).indent(false));
        let mut batches = exec.execute(0, task).map_err(|error| inward(&error))?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| inward(&error))?;
            if batch.num_rows() == 0 {
                continue;
            }
            *sent = true;
            if out.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn drive(
        self: Arc<Self>,
        plan: Arc<Plan>,
        context: Context,
        out: mpsc::Sender<Result<RecordBatch>>,
    ) {
        let work = async {
            let mut sent = false;
            match self.attempt(&plan, &context, true, &out, &mut sent).await {
                Err(Failure::Narrow) if !sent => self.attempt(&plan, &context, false, &out, &mut sent).await,
                other => other,
            }
        };
        let outcome = tokio::select! {
            biased;
            reason = context.cancel.cancelled() => Err(Failure::Error(reason.error())),
            outcome = work => outcome,
        };
        let error = match outcome {
            Ok(()) => return,
            Err(Failure::Error(error)) => error,
            Err(Failure::Narrow) => {
                Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric result has too many digits")
                    .hint("Run the query with SET startdb.analytic = off.")
            }
            Err(Failure::Kernel) => Error::internal("a kernel refused a batch for good"),
        };
        // Nobody left to tell is fine.
        let _ = out.send(Err(error)).await;
    }
}

/// Stops the work when its reader goes away.
struct Running {
    task: JoinHandle<()>,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    cancel: Arc<Cancel>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Vectorised for Analytic {
    fn accepts(&self, plan: &Plan) -> bool {
        lower::accepts(plan)
    }

    fn run(&self, plan: Arc<Plan>, context: Context) -> Result<BatchStream> {
        let runtime = self.runtime.as_ref().map(|runtime| runtime.handle().clone());
        let runtime = runtime.ok_or_else(|| Error::internal("the vectorised executor has stopped"))?;
        let shared = self.shared.clone();
        let start = async move {
            let (sender, batches) = mpsc::channel(WAITING);
            let cancel = context.cancel.clone();
            let task = runtime.spawn(shared.drive(plan, context, sender));
            let running = Running { task, batches, cancel, ended: false };
            stream::unfold(running, |mut running| async move {
                if running.ended {
                    return None;
                }
                // The client is answered at once; the operators notice at their next batch.
                let next = tokio::select! {
                    biased;
                    reason = running.cancel.cancelled() => Some(Err(reason.error())),
                    batch = running.batches.recv() => batch,
                };
                match next {
                    Some(batch) => {
                        running.ended = batch.is_err();
                        Some((batch, running))
                    }
                    // The sender is gone: the end, or a panic.
                    None => match (&mut running.task).await {
                        Ok(()) => None,
                        Err(error) => {
                            running.ended = true;
                            Some((Err(Error::internal(format!("vectorised executor: {error}"))), running))
                        }
                    },
                }
            })
        };
        Ok(Box::pin(stream::once(start).flatten()))
    }
}
