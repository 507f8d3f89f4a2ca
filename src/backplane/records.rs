//! Records in Redis: an [`Archive`] that all nodes share, for stored responses and conversations. Records of one owner
//! have one hash tag, so that changes of them are made together.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use redis::{FromRedisValue, Pipeline};
use tokio::sync::{mpsc, oneshot};

use super::Backplane;
use crate::archive::{Archive, ArchiveError, Change, Key, Kind, Listed, Pending, Range, Record};
use crate::config;

/// The operations that may wait.
const WAITING: usize = 4096;

/// The bytes of values that one scan returns.
const PAGE: usize = 1 << 20;

/// The records of all nodes.
pub struct SharedRecords {
    backplane: Arc<Backplane>,
    operations: mpsc::Sender<Operation>,
    begun: Mutex<Option<mpsc::Receiver<Operation>>>,
}

enum Operation {
    Write(Vec<Change>, oneshot::Sender<Result<(), ArchiveError>>),
    Get(Key, oneshot::Sender<Result<Option<Bytes>, ArchiveError>>),
    List((Kind, Arc<str>), oneshot::Sender<Result<Vec<Listed>, ArchiveError>>),
    Scan(Range, oneshot::Sender<Result<Vec<Record>, ArchiveError>>),
}

impl SharedRecords {
    /// The records of a backplane.
    pub fn new(backplane: &Arc<Backplane>) -> Self {
        let (operations, begun) = mpsc::channel(WAITING);
        let (backplane, begun) = (Arc::clone(backplane), Mutex::new(Some(begun)));
        Self { backplane, operations, begun }
    }

    /// Carries out operations in their order, for as long as it is polled. One does so for the process.
    pub async fn run(&self) -> Infallible {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut begun) = begun else { return std::future::pending().await };
        while let Some(operation) = begun.recv().await {
            // A receiver that has gone does not wait for the result.
            match operation {
                Operation::Write(changes, done) => {
                    let _gone = done.send(self.change(&changes).await);
                }
                Operation::Get(key, done) => {
                    let _gone = done.send(self.value(&key).await);
                }
                Operation::List((kind, owner), done) => {
                    let _gone = done.send(self.listed(kind, &owner).await);
                }
                Operation::Scan(range, done) => {
                    let _gone = done.send(self.page(&range).await);
                }
            }
        }
        std::future::pending().await
    }

    fn begin<T: Send + 'static>(
        &self,
        operation: impl FnOnce(oneshot::Sender<Result<T, ArchiveError>>) -> Operation,
    ) -> Pending<T> {
        let (done, result) = oneshot::channel();
        let sent = self.operations.try_send(operation(done));
        Box::pin(async move {
            if sent.is_err() {
                return Err(ArchiveError::Busy);
            }
            result.await.unwrap_or(Err(ArchiveError::Closed))
        })
    }

    async fn run_all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, ArchiveError> {
        let answer = self.backplane.connection.query_all(pipeline).await;
        self.backplane.answered(answer).map_err(|error| ArchiveError::Storage(error.to_string()))
    }

    async fn change(&self, changes: &[Change]) -> Result<(), ArchiveError> {
        // All changes of one call are of one owner, so that they are in one place.
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for change in changes {
            match change {
                Change::Put { key, value, expires } => {
                    let index = self.index(key.kind, &key.owner);
                    let written = self.backplane.clock.unix();
                    pipeline.cmd("SET").arg(self.key(key)).arg(&value[..]);
                    pipeline.arg("EXAT").arg(expires).ignore();
                    pipeline.cmd("ZADD").arg(&index).arg("NX").arg(written).arg(&key.id).ignore();
                    // The first sets it where there is none, the second only prolongs it.
                    for condition in ["NX", "GT"] {
                        pipeline.cmd("EXPIREAT").arg(&index).arg(expires).arg(condition).ignore();
                    }
                }
                Change::Prolong { key, expires } => {
                    pipeline.cmd("EXPIREAT").arg(self.key(key)).arg(expires).arg("GT").ignore();
                }
                Change::Remove(key) => self.remove(&mut pipeline, key),
                Change::RemoveUpTo(key) | Change::RemovePrefixed(key) => {
                    let prefixed = matches!(change, Change::RemovePrefixed(_));
                    let meant = |id: &String| {
                        if prefixed { id.starts_with(&key.id) } else { *id <= key.id }
                    };
                    let ids = self.ids(key.kind, &key.owner).await?;
                    for (id, _) in ids.into_iter().filter(|(id, _)| meant(id)) {
                        self.remove(&mut pipeline, &Key::new(key.kind, &key.owner, id));
                    }
                }
            }
        }
        self.run_all::<redis::Value>(&pipeline).await.map(drop)
    }

    fn remove(&self, pipeline: &mut Pipeline, key: &Key) {
        pipeline.cmd("DEL").arg(self.key(key)).ignore();
        pipeline.cmd("ZREM").arg(self.index(key.kind, &key.owner)).arg(&key.id).ignore();
    }

    async fn value(&self, key: &Key) -> Result<Option<Bytes>, ArchiveError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(self.key(key));
        let (value,) = self.run_all::<(Option<Vec<u8>>,)>(&pipeline).await?;
        Ok(value.map(Bytes::from))
    }

    /// The ids of a kind and owner, each with the time at which it was written. Some may have expired.
    async fn ids(&self, kind: Kind, owner: &Arc<str>) -> Result<Vec<(String, u64)>, ArchiveError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(self.index(kind, owner)).arg(0).arg(-1).arg("WITHSCORES");
        let (found,) = self.run_all::<(Vec<(String, f64)>,)>(&pipeline).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "Unix seconds, as they were put"
        )]
        let time = |(id, written): (String, f64)| (id, written as u64);
        Ok(found.into_iter().map(time).collect())
    }

    async fn listed(&self, kind: Kind, owner: &Arc<str>) -> Result<Vec<Listed>, ArchiveError> {
        let ids = self.ids(kind, owner).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for (id, _) in &ids {
            pipeline.cmd("EXPIRETIME").arg(self.key(&Key::new(kind, owner, &**id)));
        }
        let times = self.run_all::<Vec<i64>>(&pipeline).await?;
        let (mut listed, mut expired) = (Vec::new(), redis::pipe());
        let mut gone = 0;
        for ((id, written), time) in ids.into_iter().zip(times) {
            if time >= 0 {
                listed.push(Listed { id, written });
            } else {
                gone += 1;
                expired.cmd("ZREM").arg(self.index(kind, owner)).arg(id).ignore();
            }
        }
        if gone > 0 {
            self.run_all::<redis::Value>(&expired).await?;
        }
        listed.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(listed)
    }

    async fn page(&self, range: &Range) -> Result<Vec<Record>, ArchiveError> {
        let Some(owner) = &range.owner else {
            let reason = "records of all owners cannot be listed in Redis";
            return Err(ArchiveError::Storage(reason.to_owned()));
        };
        let after = |id: &str| range.after.as_ref().is_none_or(|after| *id > *after.id);
        let mut ids = self.ids(range.kind, owner).await?;
        ids.retain(|(id, _)| id.starts_with(&range.prefix) && after(id));
        ids.sort_unstable();
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (id, written) in ids {
            let key = Key::new(range.kind, owner, id);
            let mut pipeline = redis::pipe();
            pipeline.cmd("GET").arg(self.key(&key)).cmd("EXPIRETIME").arg(self.key(&key));
            let (value, expires) = self.run_all::<(Option<Vec<u8>>, i64)>(&pipeline).await?;
            if let (Some(value), Ok(expires)) = (value, u64::try_from(expires)) {
                bytes += value.len();
                records.push(Record { key, value: value.into(), written, expires });
            }
            if bytes >= PAGE {
                break;
            }
        }
        Ok(records)
    }

    fn key(&self, Key { kind, owner, id }: &Key) -> String {
        let prefix = &self.backplane.keys.0;
        format!("{prefix}record:{{{}}}:{}:{id}", tag(owner), *kind as u8)
    }

    fn index(&self, kind: Kind, owner: &Arc<str>) -> String {
        let prefix = &self.backplane.keys.0;
        format!("{prefix}records:{{{}}}:{}", tag(owner), kind as u8)
    }
}

/// The hash tag of an owner, in whose name there may be any characters.
fn tag(owner: &str) -> String {
    let digest = config::digest(owner);
    digest.iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Archive for SharedRecords {
    fn write(&self, changes: Vec<Change>) -> Pending<()> {
        self.begin(|done| Operation::Write(changes, done))
    }

    fn get(&self, key: Key) -> Pending<Option<Bytes>> {
        self.begin(|done| Operation::Get(key, done))
    }

    fn list(&self, kind: Kind, owner: &Arc<str>) -> Pending<Vec<Listed>> {
        let of = (kind, Arc::clone(owner));
        self.begin(|done| Operation::List(of, done))
    }

    fn scan(&self, range: Range) -> Pending<Vec<Record>> {
        self.begin(|done| Operation::Scan(range, done))
    }

    fn close(&self) -> Pending<()> {
        Box::pin(async { Ok(()) })
    }
}
