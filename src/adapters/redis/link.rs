//! One connection to Redis, or to all nodes of a cluster, and the commands sent over it.
//!
//! Follows the redirections of a cluster. Must not send a command again if it may have run.

use std::fmt::Display;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr,
};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

/// How often a call may be redirected to another node.
const MAX_REDIRECTIONS: u32 = 5;
/// How long to wait before a call is sent again that a node could not run, because the keys of its
/// slot are on their way to another node.
const MIGRATION_DELAY: Duration = Duration::from_millis(20);

/// A connection that many calls share. Clones are the same connection.
#[derive(Clone)]
pub(super) enum Link {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

/// A value and the number of replicas that have acknowledged what was written.
pub(super) struct Acknowledged {
    pub value: Value,
    pub replicas: u64,
}

/// How many replicas must acknowledge a write, and how long they may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub replicas: u32,
    pub timeout: Duration,
}

impl Link {
    /// Sends a command on this key to the primary that has it.
    pub(super) async fn query<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        key: Option<&impl Display>,
    ) -> RedisResult<T> {
        let value = match self {
            Self::One(manager) => manager.req_packed_command(command).await?.extract_error()?,
            Self::Cluster(cluster) => {
                let value = in_cluster(cluster, command, key, None).await?.value;
                value.extract_error()?
            }
        };
        Ok(redis::from_redis_value(value)?)
    }

    /// Like [`Self::query`], and then waits until replicas have acknowledged everything that was
    /// written before. Both commands go over the same connection, because Redis counts the writes
    /// of the connection that waits.
    pub(super) async fn query_and_wait(
        &mut self,
        command: &Cmd,
        key: Option<&impl Display>,
        wait: Wait,
    ) -> RedisResult<Acknowledged> {
        match self {
            Self::One(manager) => {
                let (pipeline, count) = pipeline(command, Some(wait), false);
                acknowledged(manager.req_packed_commands(&pipeline, 0, count).await?)
            }
            Self::Cluster(cluster) => in_cluster(cluster, command, key, Some(wait)).await,
        }
    }

    /// Sends a command to each primary, and returns their answers.
    pub(super) async fn query_all<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<Vec<T>> {
        match self {
            Self::One(manager) => {
                let value = manager.req_packed_command(command).await?.extract_error()?;
                Ok(vec![redis::from_redis_value(value)?])
            }
            Self::Cluster(cluster) => {
                let all = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special));
                let answers = cluster.route_command(command.clone(), RoutingInfo::MultiNode(all)).await?;
                let Value::Map(answers) = answers.extract_error()? else { return Err(unexpected()) };
                let answers = answers
                    .into_iter()
                    .map(|(_, answer)| Ok(redis::from_redis_value(answer.extract_error()?)?));
                answers.collect()
            }
        }
    }
}

/// Sends a command to the node that has the slot of a key, and follows redirections.
async fn in_cluster(
    cluster: &mut ClusterConnection,
    command: &Cmd,
    key: Option<&impl Display>,
    wait: Option<Wait>,
) -> RedisResult<Acknowledged> {
    let key = key.map(ToString::to_string).unwrap_or_default();
    let by_slot = || SingleNodeRoutingInfo::SpecificNode(Route::with_key(&key, SlotAddr::Master));
    let mut route = by_slot();
    let mut asking = false;
    let mut redirections = 0;
    loop {
        let (pipeline, count) = pipeline(command, wait, asking);
        let offset = usize::from(asking);
        let answers = cluster.route_pipeline(pipeline, offset, count, route).await;
        let error = match answers.and_then(acknowledged) {
            Err(error) if redirections < MAX_REDIRECTIONS => error,
            answer => return answer,
        };
        redirections += 1;
        (route, asking) = match error.kind() {
            // The library asks for the new map of slots before it sends anything else.
            ErrorKind::Server(ServerErrorKind::Moved) => (by_slot(), false),
            ErrorKind::Server(ServerErrorKind::Ask) => (redirected(&error)?, true),
            ErrorKind::Server(ServerErrorKind::TryAgain) => {
                tokio::time::sleep(MIGRATION_DELAY).await;
                (by_slot(), false)
            }
            _ => return Err(error),
        };
    }
}

/// Returns the node that an `ASK` names.
fn redirected(error: &RedisError) -> RedisResult<SingleNodeRoutingInfo> {
    let node = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':'));
    let (host, port) = node.ok_or_else(unexpected)?;
    let port = port.parse().map_err(|_| unexpected())?;
    Ok(SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port })
}

/// Returns a pipeline of `ASKING`, the command and `WAIT`, and how many answers count: all but that
/// of `ASKING`.
fn pipeline(command: &Cmd, wait: Option<Wait>, asking: bool) -> (Pipeline, usize) {
    let mut pipeline = Pipeline::new();
    if asking {
        pipeline.cmd("ASKING");
    }
    pipeline.add_command(command.clone());
    if let Some(Wait { replicas, timeout }) = wait {
        pipeline.cmd("WAIT").arg(replicas).arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    (pipeline, 1 + usize::from(wait.is_some()))
}

fn acknowledged(answers: Vec<Value>) -> RedisResult<Acknowledged> {
    let mut answers = answers.into_iter();
    let value = answers.next().ok_or_else(unexpected)?.extract_error()?;
    // An error of `WAIT` is not one of the command, which has run: no replica has acknowledged it.
    let replicas = answers.next().and_then(|answer| redis::from_redis_value(answer).ok());
    Ok(Acknowledged { value, replicas: replicas.unwrap_or_default() })
}

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "an unexpected answer").into()
}
