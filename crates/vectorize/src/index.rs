//! One index: what the binding and an admin interface both do.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rusqlite::{Connection, Transaction};
use serde::Serialize;
use skep_runtime::{Clock, Slices, Turns};
use skep_store::{Database, Quota, StoreError};

use crate::error::VectorizeError;
use crate::filter::Property;
use crate::limits::{DIMENSIONS, MAX_DELETE, MAX_GET, MAX_LIST, MAX_PROPERTIES};
use crate::metric::Probe;
use crate::query::{Level, Match, Matches, Query, Target};
use crate::rows::{self, Full, Mutation, SCHEMA, Shape};
use crate::top::{Near, Top};
use crate::vector::{Vector, distinct};

/// Searches of all indexes compute in turns, on half of the cores.
static SEARCHES: Turns = Turns::new();
/// Bytes that a vector takes beside its numbers and its metadata, about.
const ROW: usize = 128;
/// Vectors that are looked at before others may go first: about a millisecond, or more where a filter is to be read.
const BETWEEN: usize = 1024;

/// One index.
#[derive(Clone, Debug)]
pub struct Index {
    db: Arc<Database>,
    clock: Clock,
    quota: Arc<Quota>,
    /// What was last said that it is, where nobody makes it.
    said: Arc<Mutex<Option<Shape>>>,
}

/// What is known of an index.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Numbers of each vector; 0: nobody has said, and there is none yet.
    pub dimensions: usize,
    /// How many vectors there are.
    pub vector_count: u64,
    /// When the last mutation was done, RFC 3339.
    pub processed_up_to_datetime: String,
    /// Its id.
    pub processed_up_to_mutation: String,
}

/// A page of ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// In their order.
    pub ids: Vec<String>,
    /// How many there are in the index.
    pub total: u64,
    /// Where the next page begins, if there is more.
    pub cursor: Option<String>,
}

impl Index {
    /// Opens the index in `folder`. `shape` is what it is if it is new; `made` says whether somebody makes it, or whether
    /// it comes with its first vector.
    pub(crate) fn open(
        folder: &Path,
        shape: Shape,
        made: bool,
        clock: Clock,
        quota: Arc<Quota>,
    ) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)
            .map_err(|e| StoreError::io(format!("cannot create {}", folder.display()), e))?;
        let path = folder.join("index.sqlite");
        rows::prepare(&path)?;
        let mutation = mutation(&clock);
        let mut begun = Ok(());
        let db = Database::open_first(&path, SCHEMA, |connection| {
            begun = rows::begin(connection, shape, made, &mutation);
        })?;
        begun?;
        Ok(Self { db: Arc::new(db), clock, quota, said: Arc::default() })
    }

    /// Makes it what is said of it now, if nobody makes it. Dimensions count only while it is empty.
    pub(crate) async fn adopt(&self, shape: Shape) -> Result<(), StoreError> {
        let said = || self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said() == Some(shape) {
            return Ok(());
        }
        self.db.write(move |t| rows::reshape(t, shape)).await?;
        *said() = Some(shape);
        Ok(())
    }

    /// What is known of it.
    pub fn details(&self) -> Result<Details, VectorizeError> {
        let about = self.db.read(rows::about)?;
        let at = std::time::Duration::from_millis(about.processed_ms.unsigned_abs());
        Ok(Details {
            dimensions: about.shape.dimensions,
            vector_count: about.vectors,
            processed_up_to_datetime: humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + at)
                .to_string(),
            processed_up_to_mutation: about.mutation,
        })
    }

    /// Keeps new vectors; those whose id is taken are left out. Durable and visible when this resolves with the mutation's id.
    pub async fn insert(&self, vectors: Vec<Vector>) -> Result<String, VectorizeError> {
        self.keep(distinct(vectors, false), false).await
    }

    /// Keeps vectors in place of those that have their ids.
    pub async fn upsert(&self, vectors: Vec<Vector>) -> Result<String, VectorizeError> {
        self.keep(distinct(vectors, true), true).await
    }

    async fn keep(&self, vectors: Vec<Vector>, replace: bool) -> Result<String, VectorizeError> {
        let size = |v: &Vector| {
            let metadata =
                v.metadata.as_ref().map_or(0, |m| serde_json::to_string(m).map_or(0, |text| text.len()));
            v.values.len() * 4 + v.id.len() + metadata + ROW
        };
        let bytes: usize = if self.quota.is_limited() { vectors.iter().map(size).sum() } else { 0 };
        self.quota.take(bytes as u64)?;
        let kept = self.mutate(move |t, mutation| {
            let about = rows::about(t)?;
            if let Err(refused) = fit(t, &about, &vectors)? {
                return Ok(Err(refused));
            }
            let mut new = 0;
            for vector in &vectors {
                new += i64::from(rows::put(t, vector, replace)?);
            }
            rows::done(t, mutation, new)?;
            Ok(Ok(()))
        });
        let kept = kept.await;
        if kept.is_err() {
            self.quota.give_back(bytes as u64);
        }
        kept
    }

    /// Removes vectors; ids that are not there are no error.
    pub async fn delete(&self, ids: Vec<String>) -> Result<String, VectorizeError> {
        if ids.len() > MAX_DELETE {
            return Err(VectorizeError::TooManyIds { max: MAX_DELETE, got: ids.len() });
        }
        self.mutate(move |t, mutation| {
            let mut gone = 0;
            for id in &ids {
                gone += i64::from(rows::remove(t, id)?);
            }
            rows::done(t, mutation, -gone)?;
            Ok(Ok(()))
        })
        .await
    }

    /// The vectors with these ids, in the order of the ids; those that are not there are left out.
    pub fn get(&self, ids: &[String]) -> Result<Vec<Vector>, VectorizeError> {
        if ids.len() > MAX_GET {
            return Err(VectorizeError::TooManyIds { max: MAX_GET, got: ids.len() });
        }
        let found = self
            .db
            .read(|c| ids.iter().map(|id| rows::get(c, id)).collect::<Result<Vec<_>, StoreError>>())?;
        Ok(found.into_iter().flatten().collect())
    }

    /// A page of at most `count` ids, from `cursor` on.
    pub fn list(&self, count: usize, cursor: Option<&str>) -> Result<Listed, VectorizeError> {
        let after = match cursor {
            None => String::new(),
            Some(cursor) => {
                let id = BASE64.decode(cursor).ok().and_then(|id| String::from_utf8(id).ok());
                id.ok_or_else(|| VectorizeError::Json("cursor: not one of this list".into()))?
            }
        };
        let count = count.clamp(1, MAX_LIST);
        let (mut ids, total) = self
            .db
            .read(|c| Ok::<_, StoreError>((rows::ids(c, &after, count + 1)?, rows::about(c)?.vectors)))?;
        let more = ids.len() > count;
        ids.truncate(count);
        let cursor = ids.last().filter(|_| more).map(|id| BASE64.encode(id));
        Ok(Listed { ids, total, cursor })
    }

    /// The metadata indexes.
    pub fn properties(&self) -> Result<Vec<Property>, VectorizeError> {
        Ok(self.db.read(rows::properties)?)
    }

    /// Makes a metadata index, of what is there too. One that is there already gets the kind.
    pub async fn add_property(&self, property: Property) -> Result<String, VectorizeError> {
        self.mutate(move |t, mutation| {
            let others = rows::properties(t)?;
            let others = others.iter().filter(|other| other.property_name != property.property_name);
            if others.count() >= MAX_PROPERTIES {
                return Ok(Err(VectorizeError::TooManyProperties));
            }
            rows::set_property(t, &property)?;
            rows::done(t, mutation, 0)?;
            Ok(Ok(()))
        })
        .await
    }

    /// Removes a metadata index.
    pub async fn remove_property(&self, name: String) -> Result<String, VectorizeError> {
        self.mutate(move |t, mutation| {
            if !rows::remove_property(t, &name)? {
                return Ok(Err(VectorizeError::NoProperty(name)));
            }
            rows::done(t, mutation, 0)?;
            Ok(Ok(()))
        })
        .await
    }

    async fn mutate(
        &self,
        change: impl FnOnce(&Transaction<'_>, &Mutation) -> Result<Result<(), VectorizeError>, StoreError>
        + Send
        + 'static,
    ) -> Result<String, VectorizeError> {
        let mutation = mutation(&self.clock);
        let id = mutation.id.clone();
        self.db.write(move |t| change(t, &mutation)).await??;
        Ok(id)
    }

    /// By which those who take turns know it.
    pub(crate) fn who(&self) -> u64 {
        skep_runtime::who(&self.db)
    }

    /// The nearest vectors. Computes in a thread aside, when it is its turn.
    pub async fn query(&self, query: Query) -> Result<Matches, VectorizeError> {
        let db = self.db.clone();
        let searched =
            SEARCHES.in_slices(self.who(), move |slices| db.read(|c| search(c, &query, slices))).await;
        searched.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }
}

fn mutation(clock: &Clock) -> Mutation {
    Mutation { id: uuid::Uuid::new_v4().to_string(), at_ms: clock.now_ms() as i64 }
}

/// Whether the vectors can be kept; the first of all says how many numbers each has where nobody did.
fn fit(
    t: &Transaction<'_>,
    about: &rows::About,
    vectors: &[Vector],
) -> Result<Result<(), VectorizeError>, StoreError> {
    let Some(first) = vectors.first() else { return Ok(Ok(())) };
    let expected = match about.shape.dimensions {
        // Who removes all vectors may begin with others.
        _ if !about.made && about.vectors == 0 && about.shape.dimensions != first.values.len() => {
            first.values.len()
        }
        dimensions => dimensions,
    };
    if !about.made && !DIMENSIONS.contains(&expected) {
        return Ok(Err(VectorizeError::NoDimensions { id: first.id.clone(), got: expected }));
    }
    if let Some(wrong) = vectors.iter().find(|vector| vector.values.len() != expected) {
        let (id, got) = (wrong.id.clone(), wrong.values.len());
        return Ok(Err(VectorizeError::Dimensions { id, expected, got }));
    }
    match rows::room_for(t, about, vectors)? {
        Some(Full::Vectors) => return Ok(Err(VectorizeError::IndexFull)),
        Some(Full::Namespaces) => return Ok(Err(VectorizeError::TooManyNamespaces)),
        None => {}
    }
    if expected != about.shape.dimensions {
        rows::set_dimensions(t, expected)?;
    }
    Ok(Ok(()))
}

fn search(c: &Connection, query: &Query, slices: &mut Slices) -> Result<Matches, VectorizeError> {
    // What is read is of one moment.
    let moment = c.unchecked_transaction().map_err(StoreError::from)?;
    let c: &Connection = &moment;
    let about = rows::about(c)?;
    let target = match &query.target {
        Target::Vector(values) => values.clone(),
        Target::Id(id) => rows::values_of(c, id)?.ok_or_else(|| VectorizeError::NoVector(id.clone()))?,
    };
    let expected = about.shape.dimensions;
    if expected != 0 && target.len() != expected {
        return Err(VectorizeError::QueryDimensions { expected, got: target.len() });
    }
    let indexed = rows::indexed(c, &about)?;
    let nothing = Matches { count: 0, matches: Vec::new() };
    let Some(slots) = rows::slots(c, query.namespace.as_deref())? else { return Ok(nothing) };
    if query.filter.as_ref().is_some_and(|filter| filter.is_vain(&indexed)) {
        return Ok(nothing);
    }
    let probe = Probe::new(about.shape.metric, &target);
    let mut top = Top::new(query.top_k);
    let mut seen = 0_usize;
    rows::scan(c, slots, |slot, norm, content| {
        let near = Near { distance: probe.distance(content, norm), slot };
        // Metadata is read of those only that would be in the answer.
        if top.takes(near) && passes(c, query, &indexed, slot)? {
            top.add(near);
        }
        seen += 1;
        if seen.is_multiple_of(BETWEEN) {
            slices.pause();
        }
        Ok(())
    })?;
    let mut matches = Vec::with_capacity(query.top_k);
    for near in top.sorted() {
        let (id, namespace) = rows::name_of(c, near.slot)?;
        let metadata = match query.metadata {
            Level::None => None,
            Level::All => rows::metadata(c, near.slot)?,
            Level::Indexed => rows::metadata(c, near.slot)?.map(|metadata| indexed.part(&metadata)),
        };
        let values = if query.values { Some(rows::values(c, near.slot)?) } else { None };
        matches.push(Match { id, score: probe.score(near.distance), values, metadata, namespace });
    }
    Ok(Matches { count: matches.len(), matches })
}

fn passes(
    c: &Connection,
    query: &Query,
    indexed: &crate::filter::Indexed,
    slot: i64,
) -> Result<bool, StoreError> {
    let Some(filter) = &query.filter else { return Ok(true) };
    let metadata = rows::metadata(c, slot)?.unwrap_or_default();
    Ok(filter.holds(&metadata, indexed))
}
