//! How is the library called from tokio? The same verbs, each on a thread for blocking work.
//!
//! Invariants: no call blocks the thread that awaits it; an add whose future is dropped stops after the batch at hand, and
//! what was committed stays; a panic of a call is a panic of who awaits it, and of nobody else. What is not here is
//! reached through [`AsyncDatabase::call`] and [`AsyncCollection::call`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    AddOptions, AddReport, Collection, CollectionConfig, Database, Document, DocumentId, Query, Result, SearchResults,
};

/// A [`Database`] for users of tokio. Cheap to clone. Every method must be called within a tokio runtime.
///
/// ```
/// use quiverdb::nonblocking::AsyncDatabase;
/// use quiverdb::{Document, Query};
///
/// # fn main() -> quiverdb::Result<()> {
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = AsyncDatabase::in_memory()?; // or AsyncDatabase::open("notes.db").await?
/// let notes = db.collection("notes").await?;
/// notes.add(Document::new("rust-book", "A value can be borrowed many times for reading.")).await?;
/// let hits = notes.search(Query::text("how does borrowing work?")).await?.hits;
/// assert_eq!(hits[0].document, "rust-book".into());
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct AsyncDatabase {
    database: Database,
}

/// A [`Collection`] for users of tokio. Cheap to clone. Every method must be called within a tokio runtime.
#[derive(Clone)]
pub struct AsyncCollection {
    collection: Collection,
}

/// Runs a call on a thread for blocking work.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels such a call, and it polls nobody any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Tells an add to stop when its future is dropped.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl AsyncDatabase {
    /// As [`Database::open`].
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Ok(blocking(move || Database::open(path)).await?.into())
    }

    /// As [`Database::in_memory`], which needs no waiting.
    ///
    /// # Errors
    /// As [`Database::in_memory`].
    pub fn in_memory() -> Result<Self> {
        Ok(Database::in_memory()?.into())
    }

    /// As [`Database::collection`].
    ///
    /// # Errors
    /// As [`Database::collection`].
    pub async fn collection(&self, name: impl Into<String>) -> Result<AsyncCollection> {
        self.collection_with(name, CollectionConfig::new()).await
    }

    /// As [`Database::collection_with`].
    ///
    /// # Errors
    /// As [`Database::collection_with`].
    pub async fn collection_with(&self, name: impl Into<String>, config: CollectionConfig) -> Result<AsyncCollection> {
        let name = name.into();
        Ok(self.call(move |database| database.collection_with(&name, config)).await?.into())
    }

    /// Any other call of the database, on a thread for blocking work.
    ///
    /// ```
    /// # use quiverdb::nonblocking::AsyncDatabase;
    /// # fn main() -> quiverdb::Result<()> {
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let db = AsyncDatabase::in_memory()?;
    /// let names: Vec<String> = db.call(|db| db.collections()).await?.into_iter().map(|stats| stats.name).collect();
    /// assert!(names.is_empty());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub async fn call<T: Send + 'static>(&self, call: impl FnOnce(&Database) -> T + Send + 'static) -> T {
        let database = self.database.clone();
        blocking(move || call(&database)).await
    }

    /// The database itself, whose calls block.
    pub fn blocking(&self) -> &Database {
        &self.database
    }
}

impl From<Database> for AsyncDatabase {
    fn from(database: Database) -> Self {
        Self { database }
    }
}

impl From<Collection> for AsyncCollection {
    fn from(collection: Collection) -> Self {
        Self { collection }
    }
}

impl AsyncCollection {
    /// As [`Collection::add`]. A single document is stored even where the future is dropped.
    ///
    /// # Errors
    /// As [`Collection::add`].
    pub async fn add(&self, document: Document) -> Result<AddReport> {
        self.call(move |collection| collection.add(document)).await
    }

    /// As [`Collection::add_many`]. Where the future is dropped, no further batch is embedded; what was committed stays.
    ///
    /// # Errors
    /// As [`Collection::add_many`].
    pub async fn add_many<I>(&self, documents: I) -> Result<AddReport>
    where
        I: IntoIterator<Item = Document> + Send + 'static,
    {
        let cancel = Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(cancel.clone());
        let add = move |collection: &Collection| {
            let options = AddOptions { cancel: Some(&cancel), ..AddOptions::default() };
            collection.add_with(documents.into_iter().map(Ok), &options)
        };
        self.call(add).await
    }

    /// As [`Collection::search`].
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub async fn search(&self, query: Query) -> Result<SearchResults> {
        self.call(move |collection| collection.search(query)).await
    }

    /// As [`Collection::get`].
    ///
    /// # Errors
    /// As [`Collection::get`].
    pub async fn get(&self, id: impl Into<DocumentId>) -> Result<Option<Document>> {
        let id = id.into();
        self.call(move |collection| collection.get(id)).await
    }

    /// As [`Collection::delete`].
    ///
    /// # Errors
    /// As [`Collection::delete`].
    pub async fn delete(&self, id: impl Into<DocumentId>) -> Result<bool> {
        let id = id.into();
        self.call(move |collection| collection.delete(id)).await
    }

    /// As [`Collection::count`].
    ///
    /// # Errors
    /// As [`Collection::count`].
    pub async fn count(&self) -> Result<u64> {
        self.call(Collection::count).await
    }

    /// Any other call of the collection, on a thread for blocking work.
    pub async fn call<T: Send + 'static>(&self, call: impl FnOnce(&Collection) -> T + Send + 'static) -> T {
        let collection = self.collection.clone();
        blocking(move || call(&collection)).await
    }

    /// The collection itself, whose calls block.
    pub fn blocking(&self) -> &Collection {
        &self.collection
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_add_whose_future_is_dropped_stops() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("threads can be had");
        let notes: AsyncCollection =
            Database::in_memory().and_then(|database| database.collection("notes")).expect("memory is there").into();
        // Endless: only being told to stop ends it. Its end is heard by the channel's.
        let (alive, gone) = mpsc::channel::<()>();
        let endless = (0_i64..).map(move |id| {
            let _alive = &alive;
            Document::new(id, "pears and apples")
        });
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = notes.add_many(endless) => panic!("it is endless"),
                () = tokio::task::yield_now() => {}
            }
        });
        gone.recv_timeout(std::time::Duration::from_secs(60)).expect_err("nothing is sent");
        assert!(matches!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected)), "the add goes on");
    }
}
