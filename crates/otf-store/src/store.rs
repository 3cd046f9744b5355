// SPDX-License-Identifier: GPL-2.0-or-later
//! Operations on the database: open, add, claim, finish and others.

mod learning;

pub use learning::{
    AuditResult, CheckResult, EnergyDifference, Phase, PotentialRecord, Round, RoundOutcome, RoundSeconds, RunState,
};

use super::blob::Data;
use super::errors::SUSPECT;
use super::keys::{self, KeyValue, Keys};
use super::lock::{LockFile, LockWatch};
use super::status::Status;
use super::{Candidate, CandidateKeys, ErrorOf, LabelErrors, Labels, StoreError, Trigger, ase_db, errors};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Keys of the workflow, which are not properties of a candidate.
pub(super) const WORKFLOW_KEYS: [&str; 5] = ["status", "worker", "claimed_at", "attempts", "message"];

/// Key of an audit that was made training data, with the value 1.
pub const AUDIT_TRAINED: &str = "audit_trained";

/// Key of a candidate that a loop has selected, with the number of the round.
const SELECTED: &str = "selected";

/// The tables in addition to ASE's: entry `v` migrates a store of version `v` to `v + 1`.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE otf_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE INDEX otf_status_index ON text_key_values(value, id) WHERE key = 'status';
",
    "
    CREATE TABLE otf_potentials (
        hash TEXT PRIMARY KEY, parent TEXT, round INTEGER NOT NULL, file TEXT NOT NULL, active_set TEXT NOT NULL,
        created REAL NOT NULL
    );
    CREATE TABLE otf_rounds (
        round INTEGER PRIMARY KEY, phase TEXT NOT NULL, potential TEXT NOT NULL, body TEXT NOT NULL
    );
",
];

/// The newest version of the additional tables.
const STORE_VERSION: i64 = MIGRATIONS.len() as i64;

/// Largest length of a stored error log in bytes. The end of a longer log is stored.
const MAX_LOG_LENGTH: usize = 64 * 1024;

/// Timeouts of a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Largest waiting time for the transaction of another process. That of ASE is 20 s.
    pub busy_timeout: Duration,
    /// Largest waiting time for ASE's lock file. It must be larger than `stale_lock_after`; otherwise a lock file left by a
    /// killed ASE process is never removed.
    pub lock_timeout: Duration,
    /// Time after which an unchanged lock file is stale. ASE does not hold it longer than its timeout of 20 s.
    pub stale_lock_after: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(20),
            lock_timeout: Duration::from_secs(120),
            stale_lock_after: Duration::from_secs(60),
        }
    }
}

/// A candidate in the store, with its status.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCandidate {
    /// Row id in the database.
    pub id: i64,
    /// 32 hexadecimal digits. ASE changes them when it replaces the atoms: refer to rows by `id`.
    pub unique_id: Option<String>,
    /// Time at which it was added, seconds since 1970.
    pub created: Option<f64>,
    /// Time of the last change, seconds since 1970.
    pub modified: Option<f64>,
    /// The status; `None` for rows that were not stored by lammps-otf.
    pub status: Option<Status>,
    /// The worker that has claimed or labelled it.
    pub worker: Option<String>,
    /// Time of the claim or of the last heartbeat, seconds since 1970.
    pub claimed_at: Option<f64>,
    /// Number of claims.
    pub attempts: i64,
    /// The reason why it failed, in one line.
    pub message: Option<String>,
    /// The output of the oracle if it failed.
    pub error_log: Option<String>,
    /// The difference between the atoms of the row and the stored atoms, if any. `candidate` then has no labels. Its atoms
    /// are the stored ones, unless the row has no copy of them ([`StoredCandidate::is_restorable`]).
    pub mismatch: Option<String>,
    /// Whether the row has a copy of the stored atoms.
    pub is_restorable: bool,
    /// Index in the row of each atom of `candidate`, if the atoms were written in another order; shape (n).
    pub row_order: Option<Vec<usize>>,
    /// Force errors of the potential that ran; see [`StoredCandidate::errors`].
    pub(super) force_error: Option<Vec<f64>>,
    /// Force errors of the newest potential.
    pub(super) force_error_newest: Option<Vec<f64>>,
    /// The candidate.
    pub candidate: Candidate,
}

/// The result of [`Store::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckSummary {
    /// Number of rows.
    pub rows: usize,
    /// Rows whose atoms were written in another order, which was recovered.
    pub reordered: Vec<i64>,
}

impl StoredCandidate {
    /// Whether it has energy and forces that are finite and belong to its atoms. A worker can write any values.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        let atoms = self.candidate.structure.len();
        self.candidate.labels.as_ref().is_some_and(|labels| labels.check(atoms).is_ok())
    }

    /// Whether its label measures the errors of potentials, so that it is not trained on: a check, or an audit that no potential has
    /// been trained on.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        let trained = self.keys().extra.get(AUDIT_TRAINED).and_then(KeyValue::as_i64).unwrap_or(0);
        self.is_check() || self.keys().trigger == Some(Trigger::Audit) && trained == 0
    }

    /// Whether its label does not fit those of other candidates, so that it is not trained on until a person accepts it.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.keys().extra.get(SUSPECT).and_then(KeyValue::as_i64) == Some(1)
    }

    /// Whether its label was compared with those of other candidates, and found suspect or accepted.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.keys().extra.contains_key(SUSPECT)
    }

    /// Whether it is a check structure of a loop.
    #[must_use]
    pub fn is_check(&self) -> bool {
        self.keys().trigger == Some(Trigger::Check)
    }
}

/// An entry of a list of candidates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Row id in the database.
    pub id: i64,
    /// The status.
    pub status: Option<String>,
    /// The chemical formula.
    pub formula: String,
    /// Number of atoms.
    pub natoms: i64,
    /// Time at which it was added, seconds since 1970.
    pub created: Option<f64>,
    /// Total energy, eV, if it is labelled.
    pub energy: Option<f64>,
    /// All keys.
    pub keys: Keys,
}

/// The candidate store.
///
/// A `Store` is a connection to the database: each thread and each process requires its own.
///
/// ```no_run
/// use otf_store::{Status, Store};
/// # fn main() -> Result<(), otf_store::StoreError> {
/// let mut store = Store::open("candidates.db".as_ref())?;
/// while let Some(claimed) = store.claim("node-7/1")? {
///     println!("label {} atoms of row {}", claimed.candidate.structure.len(), claimed.id);
///     store.fail(claimed.id, "node-7/1", "no DFT code is installed here")?;
/// }
/// println!("{:?}", store.ids(Some(Status::Failed))?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    lock: LockFile,
    options: StoreOptions,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Create,
    Existing,
    ReadOnly,
}

impl Store {
    /// Opens a store, or creates it if the file does not exist. A database created by ASE becomes a store, with its rows
    /// unchanged.
    ///
    /// # Errors
    /// If the file is not an ASE database, has an unsupported version, is damaged, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::Create, StoreOptions::default())
    }

    /// As [`Store::open`], with other timeouts.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::Create, options)
    }

    /// Opens an existing store. A database without tables, left by a process that was killed while it created the store, is
    /// completed.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the file does not exist; otherwise as [`Store::open`].
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::Existing, StoreOptions::default())
    }

    /// Opens a store for reading. Neither the file nor its folder is changed.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the file does not exist; otherwise as [`Store::open`].
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::ReadOnly, StoreOptions::default())
    }

    fn open_as(path: &Path, mode: Mode, options: StoreOptions) -> Result<Self, StoreError> {
        let err = |e| StoreError::sqlite(path, "open", options.busy_timeout, e);
        if path.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(StoreError::Io { path: path.to_owned(), doing: "open", source });
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(StoreError::Io { path: folder.to_owned(), doing: "find the folder", source });
        }
        if mode != Mode::Create && !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        // Without SQLITE_OPEN_URI, a name that begins with `file:` is a file name.
        let access = match mode {
            Mode::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Mode::Existing => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Mode::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(err)?;
        conn.busy_timeout(options.busy_timeout).map_err(err)?;
        conn.set_prepared_statement_cache_capacity(64);
        // The file is not trusted: its schema is restricted, and damaged cells are detected. ASE declares foreign keys but
        // does not enforce them, and deletes from `systems` first.
        conn.execute_batch(
            "PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; \
             PRAGMA cell_size_check = ON;",
        )
        .map_err(err)?;
        let store = Self { conn, path: path.to_owned(), lock: LockFile::for_database(path), options };
        // An existing database without tables was left by a process that was killed while it created the store.
        if mode != Mode::ReadOnly && store.is_blank().map_err(err)? {
            store.modify("create", |tx| {
                if store.is_blank().map_err(err)? { ase_db::create(tx).map_err(err) } else { Ok(()) }
            })?;
        }
        let found = store.verify()?;
        if found < STORE_VERSION && mode != Mode::ReadOnly {
            store.modify("upgrade", |tx| store.migrate(tx))?;
        }
        Ok(store)
    }

    /// Whether the database has no tables.
    fn is_blank(&self) -> rusqlite::Result<bool> {
        self.conn.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))
    }

    /// Checks the versions of ASE's schema and of the additional tables, and returns the latter.
    fn verify(&self) -> Result<i64, StoreError> {
        let err = |e| self.error("open", e);
        let path = || self.path.clone();
        // ASE creates its tables one by one, so an incomplete database may be just being created.
        for attempt in 0.. {
            match ase_db::not_ase(&self.conn).map_err(err)? {
                None => break,
                Some(_) if attempt < 5 => std::thread::sleep(Duration::from_millis(100)),
                Some(detail) => return Err(StoreError::NotAse { path: path(), detail }),
            }
        }
        match ase_db::schema_version(&self.conn).map_err(err)? {
            Some(ase_db::SCHEMA_VERSION) => {}
            Some(found) => return Err(StoreError::AseVersion { path: path(), found }),
            None => return Err(StoreError::NotAse { path: path(), detail: "it has no schema version".into() }),
        }
        let found = self.store_version().map_err(err)?;
        if found > STORE_VERSION {
            return Err(StoreError::StoreVersion { path: path(), found, known: STORE_VERSION });
        }
        Ok(found)
    }

    /// The version of the additional tables; 0 if there are none.
    fn store_version(&self) -> rusqlite::Result<i64> {
        if !ase_db::has_table(&self.conn, "otf_meta")? {
            return Ok(0);
        }
        let query = "SELECT CAST(value AS INTEGER) FROM otf_meta WHERE key = 'store_version'";
        Ok(self.conn.query_row(query, [], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    fn migrate(&self, tx: &Connection) -> Result<(), StoreError> {
        let err = |e| self.error("upgrade", e);
        let found = usize::try_from(self.store_version().map_err(err)?).unwrap_or(0);
        for step in MIGRATIONS.iter().skip(found) {
            tx.execute_batch(step).map_err(err)?;
        }
        let set = "INSERT OR REPLACE INTO otf_meta VALUES (?1, ?2)";
        tx.execute(set, ["store_version", &STORE_VERSION.to_string()]).map_err(err)?;
        tx.execute(set, ["written_by", concat!("lammps-otf ", env!("CARGO_PKG_VERSION"))]).map_err(err)?;
        Ok(())
    }

    fn error(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, doing, self.options.busy_timeout, source)
    }

    /// Runs `change` in a write transaction and holds ASE's lock file from before the first read until after the commit.
    /// `doing` is the operation for error messages.
    fn modify<T>(
        &self,
        doing: &'static str,
        change: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut watch = LockWatch::default();
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let (transaction, guard) = loop {
            let transaction = self.begin(doing)?;
            if let Some(guard) =
                self.lock.try_take(&mut watch, self.options.stale_lock_after).map_err(|e| self.lock_error(doing, e))?
            {
                break (transaction, guard);
            }
            // ASE holds the lock file and may be waiting for the transaction.
            transaction.rollback().map_err(|e| self.error(doing, e))?;
            if start.elapsed() > self.options.lock_timeout {
                return Err(StoreError::LockFile {
                    path: self.lock.path().to_owned(),
                    doing,
                    owner: self.lock.owner(),
                    seconds: self.options.lock_timeout.as_secs(),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        let result = change(&transaction)?;
        transaction.commit().map_err(|e| self.error(doing, e))?;
        drop(guard);
        Ok(result)
    }

    fn begin(&self, doing: &'static str) -> Result<Transaction<'_>, StoreError> {
        Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate).map_err(|e| self.error(doing, e))
    }

    fn lock_error(&self, doing: &'static str, source: io::Error) -> StoreError {
        let (path, detail) = (self.path.clone(), source.to_string());
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { path, doing, detail }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full { path, doing, detail }
            }
            _ if !path.exists() => StoreError::Moved { path, doing },
            _ => StoreError::Io { path: self.lock.path().to_owned(), doing: "lock", source },
        }
    }

    /// The path of the database.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds candidates in one transaction and returns their row ids. Their status is `PENDING_DFT`, or `DONE` for those with
    /// labels. When this returns, the candidates are on the disk.
    ///
    /// # Errors
    /// If a candidate is invalid (then no candidate is stored), or if the database cannot be written.
    pub fn add(&mut self, candidates: &[Candidate]) -> Result<Vec<i64>, StoreError> {
        let rows = self.checked(candidates)?;
        self.add_with_status(&rows)
    }

    /// Checks candidates and returns them with their initial status.
    fn checked<'c>(&self, candidates: &'c [Candidate]) -> Result<Vec<(&'c Candidate, Status)>, StoreError> {
        let status = |c: &Candidate| if c.labels.is_some() { Status::Done } else { Status::PendingDft };
        let rows: Vec<_> = candidates.iter().map(|candidate| (candidate, status(candidate))).collect();
        Self::check_rows(&rows)?;
        Ok(rows)
    }

    /// As [`Store::add`], with a given status for each candidate. `RUNNING_DFT` becomes `PENDING_DFT`, since no worker of
    /// this store has claimed them.
    ///
    /// # Errors
    /// As [`Store::add`]; also if a candidate is `DONE` without labels.
    pub fn add_with_status(&mut self, rows: &[(&Candidate, Status)]) -> Result<Vec<i64>, StoreError> {
        Self::check_rows(rows)?;
        let transaction = self.begin("add to")?;
        let ids = self.insert(&transaction, rows)?;
        transaction.commit().map_err(|e| self.error("add to", e))?;
        Ok(ids)
    }

    fn check_rows(rows: &[(&Candidate, Status)]) -> Result<(), StoreError> {
        for (candidate, status) in rows {
            ase_db::check(candidate)?;
            if let Some(key) = WORKFLOW_KEYS.into_iter().find(|&key| candidate.keys.extra.contains_key(key)) {
                let reason = "the key is reserved by the store: choose another name".into();
                return Err(StoreError::InvalidKey { key: key.into(), reason });
            }
            if *status == Status::Done && candidate.labels.is_none() {
                return Err(StoreError::InvalidCandidate("its status is DONE, but it has no energy and forces".into()));
            }
        }
        Ok(())
    }

    /// Inserts checked candidates. The caller holds a transaction.
    fn insert(&self, tx: &Connection, rows: &[(&Candidate, Status)]) -> Result<Vec<i64>, StoreError> {
        let err = |e| self.error("add to", e);
        let mut ids = Vec::with_capacity(rows.len());
        for (candidate, status) in rows {
            let status = if *status == Status::RunningDft { Status::PendingDft } else { *status };
            let mut pairs = candidate.keys.to_pairs();
            pairs.insert("status".into(), status.as_str().into());
            ids.push(ase_db::insert(tx, candidate, &pairs, ase_db::unix_now()).map_err(err)?);
        }
        Ok(ids)
    }

    /// Adds a candidate with the status `PENDING_DFT` and returns its row id, unless `is_duplicate` returns `true` for the
    /// rows with ids above `after` (ascending, added by any process). No process can add rows between this check and the
    /// insertion. Invalid rows are ignored.
    ///
    /// # Errors
    /// As [`Store::add`].
    pub fn add_if_new(
        &mut self,
        candidate: &Candidate,
        after: i64,
        is_duplicate: impl FnOnce(&[StoredCandidate]) -> bool,
    ) -> Result<Option<i64>, StoreError> {
        ase_db::check(candidate)?;
        let transaction = self.begin("add to")?;
        let mut newer = Vec::new();
        for id in self.ids(None)?.into_iter().filter(|id| *id > after) {
            match self.find(id) {
                Ok(row) => newer.extend(row),
                Err(StoreError::InvalidRow { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if is_duplicate(&newer) {
            return Ok(None);
        }
        let id = self.insert(&transaction, &[(candidate, Status::PendingDft)])?[0];
        transaction.commit().map_err(|e| self.error("add to", e))?;
        Ok(Some(id))
    }

    /// The candidate with this row id.
    ///
    /// # Errors
    /// If there is none, or if its row is invalid.
    pub fn get(&self, id: i64) -> Result<StoredCandidate, StoreError> {
        self.find(id)?.ok_or_else(|| self.no_such_candidate(id))
    }

    fn no_such_candidate(&self, id: i64) -> StoreError {
        StoreError::NoSuchCandidate { path: self.path.clone(), id }
    }

    fn invalid_row(&self, id: i64, reason: String) -> StoreError {
        StoreError::InvalidRow { path: self.path.clone(), id, reason }
    }

    /// The error for a row whose atoms differ from the stored ones; `None` for other rows.
    #[must_use]
    pub fn mismatch(&self, row: &StoredCandidate) -> Option<StoreError> {
        row.mismatch.as_ref().map(|reason| StoreError::Mismatch {
            path: self.path.clone(),
            id: row.id,
            reason: reason.clone(),
            restorable: row.is_restorable,
        })
    }

    /// Reads a row and compares its atoms with the stored ones. All reading of candidates uses this function.
    fn find(&self, id: i64) -> Result<Option<StoredCandidate>, StoreError> {
        let query = format!("SELECT {} FROM systems WHERE id = ?1", ase_db::READ_COLUMNS);
        let raw = self
            .conn
            .prepare_cached(&query)
            .and_then(|mut statement| statement.query_row([id], ase_db::read_row).optional())
            .map_err(|e| match e {
                // A type that ASE does not write.
                rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::Utf8Error(..) => {
                    self.invalid_row(id, e.to_string())
                }
                e => self.error("read", e),
            })?;
        let Some(raw) = raw else { return Ok(None) };
        let ase_db::ParsedRow { candidate, force_errors, pairs, data, mismatch, row_order } =
            raw.parse().map_err(|reason| self.invalid_row(id, reason))?;
        let text = |key: &str| pairs.get(key).and_then(KeyValue::as_text).map(str::to_owned);
        Ok(Some(StoredCandidate {
            id,
            unique_id: raw.unique_id,
            created: raw.times[0].map(ase_db::unix_time),
            modified: raw.times[1].map(ase_db::unix_time),
            status: text("status").and_then(|status| status.parse().ok()),
            worker: text("worker"),
            claimed_at: pairs.get("claimed_at").and_then(KeyValue::as_f64),
            attempts: pairs.get("attempts").and_then(KeyValue::as_i64).unwrap_or(0),
            message: text("message"),
            error_log: match data.get(ase_db::data_names::ERROR_LOG) {
                Some(Data::Text(log)) => Some(log.clone()),
                _ => None,
            },
            mismatch,
            is_restorable: data.contains_key(ase_db::data_names::STORED_ATOMS),
            row_order,
            force_error: force_errors.0,
            force_error_newest: force_errors.1,
            candidate,
        }))
    }

    /// The row ids of the candidates with this status (or of all rows), ascending.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn ids(&self, status: Option<Status>) -> Result<Vec<i64>, StoreError> {
        let query = match status {
            Some(_) => "SELECT id FROM text_key_values WHERE key = 'status' AND value = ?1 ORDER BY id",
            None => "SELECT id FROM systems WHERE ?1 IS NULL ORDER BY id",
        };
        let ids = || -> rusqlite::Result<Vec<i64>> {
            let mut statement = self.conn.prepare_cached(query)?;
            statement.query_map([status.map(Status::as_str)], |row| row.get(0))?.collect()
        };
        ids().map_err(|e| self.error("read", e))
    }

    /// An iterator over the candidates with this status (or all rows). Rows are read one by one; rows deleted meanwhile are
    /// skipped.
    ///
    /// # Errors
    /// If the database cannot be read. An item is an error if its row is invalid.
    pub fn iter(
        &self,
        status: Option<Status>,
    ) -> Result<impl Iterator<Item = Result<StoredCandidate, StoreError>> + '_, StoreError> {
        Ok(self.ids(status)?.into_iter().filter_map(|id| self.find(id).transpose()))
    }

    /// A summary of each candidate with this status (or of each row), without reading the atoms.
    ///
    /// # Errors
    /// If the database cannot be read, or if the keys of a row are invalid.
    pub fn summaries(&self, status: Option<Status>) -> Result<Vec<Summary>, StoreError> {
        let err = |e| self.error("read", e);
        // One snapshot, so that rows and species are consistent.
        let snapshot = self.conn.unchecked_transaction().map_err(err)?;
        let mut species = snapshot.prepare_cached("SELECT Z, n FROM species WHERE id = ?1 ORDER BY Z").map_err(err)?;
        let mut rows = snapshot
            .prepare_cached(
                "SELECT id, natoms, ctime, energy, key_value_pairs FROM systems WHERE ?1 IS NULL OR id IN \
                 (SELECT id FROM text_key_values WHERE key = 'status' AND value = ?1) ORDER BY id",
            )
            .map_err(err)?;
        let read = |row: &rusqlite::Row| {
            let pairs: Option<String> = row.get(4)?;
            Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<f64>>(2)?, row.get(3)?, pairs))
        };
        let rows = rows.query_map([status.map(Status::as_str)], read).map_err(err)?;
        let mut summaries = Vec::new();
        for row in rows {
            let (id, natoms, created, energy, pairs) = row.map_err(err)?;
            let keys = ase_db::parse_pairs(pairs.as_deref()).map_err(|reason| self.invalid_row(id, reason))?;
            let counts = species.query_map([id], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?)));
            let mut formula = String::new();
            for count in counts.map_err(err)? {
                let (number, count) = count.map_err(err)?;
                let element = mendeleev::Element::iter().find(|element| element.atomic_number() == number);
                formula.push_str(element.map_or("X", |element| element.symbol()));
                if count > 1 {
                    formula.push_str(&count.to_string());
                }
            }
            summaries.push(Summary {
                id,
                status: keys.get("status").and_then(KeyValue::as_text).map(str::to_owned),
                formula,
                natoms,
                created: created.map(ase_db::unix_time),
                energy,
                keys,
            });
        }
        Ok(summaries)
    }

    /// The number of candidates of each status.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<Status, i64>, StoreError> {
        let counts = || -> rusqlite::Result<Vec<(String, i64)>> {
            let query = "SELECT value, count(*) FROM text_key_values WHERE key = 'status' GROUP BY value";
            self.conn.prepare_cached(query)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let counts = counts().map_err(|e| self.error("read", e))?;
        let mut by_status: BTreeMap<_, _> = Status::ALL.into_iter().map(|status| (status, 0)).collect();
        for (text, count) in counts {
            // Other texts were written by other programs.
            if let Some(slot) = text.parse().ok().and_then(|status| by_status.get_mut(&status)) {
                *slot += count;
            }
        }
        Ok(by_status)
    }

    /// The pairs of a row and its status. The caller holds a transaction.
    fn pairs(&self, tx: &Connection, id: i64) -> Result<(Keys, Option<Status>), StoreError> {
        let pairs = ase_db::read_pairs(tx, id).map_err(|e| self.error("read", e))?;
        let pairs = pairs.ok_or_else(|| self.no_such_candidate(id))?.map_err(|reason| self.invalid_row(id, reason))?;
        let status = pairs.get("status").and_then(KeyValue::as_text).and_then(|status| status.parse().ok());
        Ok((pairs, status))
    }

    /// Changes the status of a row and removes the data of the previous status.
    fn transition(
        &self,
        tx: &Connection,
        id: i64,
        to: Status,
        change: impl FnOnce(&mut Keys),
    ) -> Result<(), StoreError> {
        let err = |e| self.error("change", e);
        let (mut pairs, from) = self.pairs(tx, id)?;
        if !from.is_some_and(|from| from.can_change_to(to)) {
            return Err(StoreError::Transition { id, from, to });
        }
        pairs.insert("status".into(), to.as_str().into());
        if to != Status::RunningDft {
            pairs.remove("claimed_at");
        }
        if matches!(to, Status::PendingDft | Status::RunningDft) {
            pairs.remove("worker");
            pairs.remove("message");
            errors::remove_keys(&mut pairs);
            let mut outdated = vec![(ase_db::data_names::ERROR_LOG, None)];
            outdated.extend(ErrorOf::ALL.map(|of| (of.array(), None)));
            ase_db::update_data(tx, id, &outdated).map_err(err)?.map_err(|reason| self.invalid_row(id, reason))?;
        }
        if from == Some(Status::Rejected) {
            ase_db::update_labels(tx, id, None).map_err(err)?;
        }
        if to == Status::PendingDft
            && let Ok(Some(row)) = self.find(id)
            && row.mismatch.is_some()
            && row.is_restorable
        {
            ase_db::restore_atoms(tx, id, &row.candidate.structure).map_err(err)?;
        }
        change(&mut pairs);
        ase_db::update_pairs(tx, id, &pairs).map_err(err)
    }

    /// Changes the status of a candidate manually, for example to reject it or to label a failed one again.
    ///
    /// # Errors
    /// [`StoreError::Transition`] if the transition is not allowed. The status `DONE` can only be reached by labels: see
    /// [`Store::finish`] and [`Store::import_labels`].
    pub fn set_status(&mut self, id: i64, to: Status) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            if matches!(to, Status::Done | Status::RunningDft) {
                return Err(StoreError::Transition { id, from: self.pairs(tx, id)?.1, to });
            }
            self.transition(tx, id, to, |_| {})
        })
    }

    /// Claims the oldest pending candidate for a worker; `None` if there is none. No other worker gets the same one.
    ///
    /// `worker` identifies the caller. It should be unique over all workers (host, process, counter), so that a worker
    /// whose claim was released is not mistaken for its successor. A row that is invalid, or whose atoms differ from the
    /// stored ones, is set to `FAILED`, and the next one is claimed.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn claim(&mut self, worker: &str) -> Result<Option<StoredCandidate>, StoreError> {
        self.modify("claim a candidate of", |tx| {
            for id in self.ids(Some(Status::PendingDft))? {
                if let Some(claimed) = self.claim_row(tx, id, worker)? {
                    return Ok(Some(claimed));
                }
            }
            Ok(None)
        })
    }

    /// Claims this candidate; `None` if it is not pending.
    ///
    /// # Errors
    /// If there is no such candidate, or if the database cannot be written.
    pub fn claim_id(&mut self, id: i64, worker: &str) -> Result<Option<StoredCandidate>, StoreError> {
        self.modify("claim a candidate of", |tx| self.claim_row(tx, id, worker))
    }

    fn claim_row(&self, tx: &Connection, id: i64, worker: &str) -> Result<Option<StoredCandidate>, StoreError> {
        let (pairs, status) = match self.pairs(tx, id) {
            // The keys cannot be parsed, so the status cannot be changed.
            Err(StoreError::InvalidRow { .. }) => return Ok(None),
            other => other?,
        };
        if status != Some(Status::PendingDft) {
            // The search tables differ from the row. The row takes precedence, as in ASE.
            if self.ids(Some(Status::PendingDft))?.contains(&id) {
                ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("claim a candidate of", e))?;
            }
            return Ok(None);
        }
        let unusable = match self.find(id) {
            Err(StoreError::InvalidRow { reason, .. }) => Some(reason),
            other => other?.and_then(|row| row.mismatch),
        };
        if let Some(reason) = unusable {
            let mut pairs = pairs;
            pairs.insert("status".into(), Status::Failed.as_str().into());
            pairs.insert("message".into(), one_line(&reason).into());
            ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("claim a candidate of", e))?;
            return Ok(None);
        }
        let attempts = pairs.get("attempts").and_then(KeyValue::as_i64).unwrap_or(0).saturating_add(1);
        self.transition(tx, id, Status::RunningDft, |pairs| {
            pairs.insert("worker".into(), keys::quote_number(worker).into());
            pairs.insert("claimed_at".into(), ase_db::unix_now().into());
            pairs.insert("attempts".into(), attempts.into());
        })?;
        self.find(id)
    }

    /// Renews the claim of a worker, so that it does not become stale.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`] if the candidate is not claimed by this worker.
    pub fn heartbeat(&mut self, id: i64, worker: &str) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            let mut pairs = self.claimed_by(tx, id, worker)?;
            pairs.insert("claimed_at".into(), ase_db::unix_now().into());
            ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("change", e))
        })
    }

    /// The pairs of a row that this worker has claimed.
    fn claimed_by(&self, tx: &Connection, id: i64, worker: &str) -> Result<Keys, StoreError> {
        let (pairs, status) = self.pairs(tx, id)?;
        let holder = pairs.get("worker").and_then(KeyValue::as_text).unwrap_or("none");
        if status != Some(Status::RunningDft) || holder != keys::quote_number(worker) {
            let holder = if status == Some(Status::RunningDft) { holder } else { "none" };
            return Err(StoreError::ClaimLost { id, worker: worker.to_owned(), holder: holder.to_owned() });
        }
        Ok(pairs)
    }

    /// Stores the labels of a candidate that this worker has claimed and sets its status to `DONE`.
    ///
    /// # Errors
    /// [`StoreError::InvalidLabels`] if the labels do not belong to the atoms or are not finite; [`StoreError::ClaimLost`].
    pub fn finish(&mut self, id: i64, worker: &str, labels: &Labels) -> Result<(), StoreError> {
        self.modify("write labels to", |tx| {
            self.claimed_by(tx, id, worker)?;
            self.store_labels(tx, id, labels)?;
            self.transition(tx, id, Status::Done, |_| {})
        })
    }

    /// Stores labels that were computed by another program for a candidate that is pending, running or failed.
    ///
    /// # Errors
    /// [`StoreError::InvalidLabels`] if the labels do not belong to the atoms or are not finite;
    /// [`StoreError::Transition`] if the candidate is done or rejected.
    pub fn import_labels(&mut self, id: i64, labels: &Labels) -> Result<(), StoreError> {
        self.modify("write labels to", |tx| {
            self.store_labels(tx, id, labels)?;
            let (_, from) = self.pairs(tx, id)?;
            for step in match from {
                Some(Status::PendingDft) => &[Status::RunningDft][..],
                Some(Status::Failed) => &[Status::PendingDft, Status::RunningDft],
                _ => &[],
            } {
                self.transition(tx, id, *step, |_| {})?;
            }
            self.transition(tx, id, Status::Done, |_| {})
        })
    }

    /// Stores the differences between labels and the predictions of a potential, in one transaction. Labelling a candidate again
    /// removes them. A row that was deleted in the meantime is skipped.
    ///
    /// # Errors
    /// If the number of errors of a candidate is not that of its atoms, or if the database cannot be written.
    pub fn set_errors(&mut self, of: ErrorOf, rows: &[(i64, LabelErrors)]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.modify("write errors to", |tx| {
            for (id, errors) in rows {
                let Some(row) = self.find(*id)? else { continue };
                if row.candidate.structure.len() != errors.forces.len() {
                    let reason = "the number of force errors is not that of the atoms".to_owned();
                    return Err(StoreError::InvalidLabels { id: *id, reason });
                }
                let (mut pairs, _) = self.pairs(tx, *id)?;
                errors.set_keys(of, &mut pairs);
                let err = |e| self.error("write errors to", e);
                ase_db::update_data(tx, *id, &[(of.array(), Some(errors.data()))])
                    .map_err(err)?
                    .map_err(|reason| self.invalid_row(*id, reason))?;
                ase_db::update_pairs(tx, *id, &pairs).map_err(err)?;
            }
            Ok(())
        })
    }

    /// Makes audits training data. They no longer measure the errors of potentials.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn train_on_audits(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.modify("change", |tx| {
            for &id in ids {
                let (mut pairs, _) = self.pairs(tx, id)?;
                pairs.insert(AUDIT_TRAINED.into(), KeyValue::Int(1));
                ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("change", e))?;
            }
            Ok(())
        })
    }

    /// Marks labels as suspect, so that they are not trained on, or as accepted.
    ///
    /// # Errors
    /// If a candidate does not exist, or if the database cannot be written.
    pub fn set_suspect(&mut self, ids: &[i64], is_suspect: bool) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.modify("change", |tx| {
            for &id in ids {
                let (mut pairs, _) = self.pairs(tx, id)?;
                pairs.insert(SUSPECT.into(), KeyValue::Int(is_suspect.into()));
                ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("change", e))?;
            }
            Ok(())
        })
    }

    /// Sets the key `selected` of candidates to the number of the round that selected them, so that external workers label these
    /// and not others. Rows that were deleted in the meantime are skipped.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn mark_selected(&mut self, ids: &[i64], round: u32) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            for &id in ids {
                let mut pairs = match self.pairs(tx, id) {
                    Err(StoreError::NoSuchCandidate { .. }) => continue,
                    other => other?.0,
                };
                if pairs.insert(SELECTED.into(), KeyValue::Int(round.into())) != Some(KeyValue::Int(round.into())) {
                    ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("change", e))?;
                }
            }
            Ok(())
        })
    }

    fn store_labels(&self, tx: &Connection, id: i64, labels: &Labels) -> Result<(), StoreError> {
        let row = self.find(id)?.ok_or_else(|| self.no_such_candidate(id))?;
        let invalid = |reason| StoreError::InvalidLabels { id, reason };
        labels.check(row.candidate.structure.len()).map_err(invalid)?;
        if let Some(reason) = row.mismatch {
            return Err(invalid(format!("the atoms of its row differ from the stored atoms: {reason}")));
        }
        let mut labels = labels.clone();
        if let Some(order) = row.row_order {
            let forces = labels.forces.clone();
            order.iter().enumerate().for_each(|(i, &at)| labels.forces.row_mut(at).assign(&forces.row(i)));
        }
        ase_db::update_labels(tx, id, Some(&labels)).map_err(|e| self.error("write labels to", e))
    }

    /// Sets the status of a claimed candidate to `FAILED`. The first line of the log is stored as the key `message`, its last
    /// 64 KiB as `row.data["error_log"]`.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`], or if the database cannot be written.
    pub fn fail(&mut self, id: i64, worker: &str, log: &str) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            self.claimed_by(tx, id, worker)?;
            self.transition(tx, id, Status::Failed, |pairs| {
                pairs.insert("message".into(), one_line(log).into());
            })?;
            let start = (log.len().saturating_sub(MAX_LOG_LENGTH)..=log.len()).find(|&i| log.is_char_boundary(i));
            let log = Data::Text(log[start.unwrap_or(0)..].to_owned());
            ase_db::update_data(tx, id, &[(ase_db::data_names::ERROR_LOG, Some(log))])
                .map_err(|e| self.error("change", e))?
                .map_err(|reason| self.invalid_row(id, reason))
        })
    }

    /// Releases a claimed candidate without a label; its status is `PENDING_DFT` again.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`], or if the database cannot be written.
    pub fn release(&mut self, id: i64, worker: &str) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            self.claimed_by(tx, id, worker)?;
            self.transition(tx, id, Status::PendingDft, |_| {})
        })
    }

    /// Releases the candidates whose claim was not renewed for `age`, and returns their row ids. If a worker does not write
    /// the key `claimed_at`, the time of the last change of the row is used.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn release_stale(&mut self, age: Duration) -> Result<Vec<i64>, StoreError> {
        let oldest = ase_db::unix_now() - age.as_secs_f64();
        self.modify("change", |tx| {
            let mut released = Vec::new();
            for id in self.ids(Some(Status::RunningDft))? {
                let (pairs, status) = self.pairs(tx, id)?;
                let query = "SELECT mtime FROM systems WHERE id = ?1";
                let changed: Option<f64> =
                    tx.query_row(query, [id], |row| row.get(0)).map_err(|e| self.error("read", e))?;
                let renewed = pairs.get("claimed_at").and_then(KeyValue::as_f64).or(changed.map(ase_db::unix_time));
                if status == Some(Status::RunningDft) && renewed.is_none_or(|renewed| renewed <= oldest) {
                    self.transition(tx, id, Status::PendingDft, |_| {})?;
                    released.push(id);
                }
            }
            Ok(released)
        })
    }

    /// The value stored under a name by [`Store::set_meta`]; `None` if there is none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let err = |e| self.error("read", e);
        if !ase_db::has_table(&self.conn, "otf_meta").map_err(err)? {
            return Ok(None);
        }
        let query = "SELECT value FROM otf_meta WHERE key = ?1";
        self.conn.query_row(query, [key], |row| row.get(0)).optional().map_err(err)
    }

    /// Stores a value under a name in the table `otf_meta`, which ASE ignores.
    ///
    /// # Errors
    /// If the name is reserved (`store_version`, `written_by`), or if the database cannot be written.
    pub fn set_meta(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        if matches!(key, "store_version" | "written_by") {
            let reason = "the name is reserved by the store: choose another name".into();
            return Err(StoreError::InvalidKey { key: key.into(), reason });
        }
        let err = |e| self.error("write", e);
        let transaction = self.begin("write")?;
        transaction.execute("INSERT OR REPLACE INTO otf_meta VALUES (?1, ?2)", [key, value]).map_err(err)?;
        transaction.commit().map_err(err)
    }

    /// Reads the whole database and checks the structures of SQLite, that every row is valid, and that its atoms are the
    /// stored ones.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::InvalidRow`] or [`StoreError::Mismatch`] with the first problem.
    pub fn check(&self) -> Result<CheckSummary, StoreError> {
        let problems = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.conn.prepare("PRAGMA integrity_check(5)")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let problems = problems().map_err(|e| self.error("check", e))?;
        if problems != ["ok"] {
            let detail = problems.join("; ").replace('\n', " ");
            return Err(StoreError::Corrupt { path: self.path.clone(), detail });
        }
        let mut summary = CheckSummary { rows: 0, reordered: Vec::new() };
        for row in self.iter(None)? {
            let row = row?;
            self.mismatch(&row).map_or(Ok(()), Err)?;
            summary.rows += 1;
            summary.reordered.extend(row.row_order.map(|_| row.id));
        }
        Ok(summary)
    }

    /// Copies the database to a new file, also while other processes use it.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        if to.exists() {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(StoreError::Io { path: to.to_owned(), doing: "write a backup to", source });
        }
        let Some(name) = to.to_str() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the name is not UTF-8");
            return Err(StoreError::Io { path: to.to_owned(), doing: "write a backup to", source });
        };
        // VACUUM INTO interprets a name that begins with `file:` as a URI, independent of the flags.
        let name = if name.starts_with("file:") { format!("./{name}") } else { name.to_owned() };
        self.conn
            .execute("VACUUM INTO ?1", [name])
            .map(|_| ())
            .map_err(|e| StoreError::sqlite(to, "write a backup to", self.options.busy_timeout, e))
    }
}

impl StoredCandidate {
    /// The keys of the candidate.
    #[must_use]
    pub fn keys(&self) -> &CandidateKeys {
        &self.candidate.keys
    }
}

/// The first non-empty line of a text, truncated for use as a key.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
    keys::quote_number(&line.chars().take(200).collect::<String>())
}
