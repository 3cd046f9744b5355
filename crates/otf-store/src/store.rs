// SPDX-License-Identifier: GPL-2.0-or-later
//! The database file: opening, adding, claiming, finishing.

mod learning;

pub use learning::{Phase, PotentialRecord, Round, RoundSeconds, Seen};

use super::blob::Data;
use super::keys::{self, KeyValue, Keys};
use super::lock::{LockFile, Watch};
use super::status::Status;
use super::{Candidate, CandidateKeys, Labels, StoreError, ase_db};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Keys that say where a candidate stands, not what it is.
pub(super) const WORKFLOW_KEYS: [&str; 5] = ["status", "worker", "claimed_at", "attempts", "message"];

/// Our own tables beside ASE's, by version: entry `v` brings a store of version `v` to `v + 1`.
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

/// The newest version of our own tables.
const STORE_VERSION: i64 = MIGRATIONS.len() as i64;

/// The longest error log that is kept; its end tells most.
const LOG_LIMIT: usize = 64 * 1024;

/// How long a store waits for others.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// How long to wait for another process's transaction. ASE waits 20 s.
    pub busy_timeout: Duration,
    /// How long to wait for ASE's lock file before giving up; longer than `stale_lock_after`, or a file left behind
    /// by a killed ASE process is never removed.
    pub lock_timeout: Duration,
    /// When a lock file that does not change counts as left behind. ASE never holds it longer than its own 20 s.
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

/// A candidate as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCandidate {
    /// Its number in the database.
    pub id: i64,
    /// 32 hexadecimal digits. ASE gives a row new ones when it replaces the atoms: refer to rows by `id`.
    pub unique_id: Option<String>,
    /// When it was added, seconds since 1970.
    pub created: Option<f64>,
    /// When it was last changed, seconds since 1970.
    pub modified: Option<f64>,
    /// Where it stands; `None` for rows that are none of ours.
    pub status: Option<Status>,
    /// Who has claimed it, or labelled it.
    pub worker: Option<String>,
    /// When it was claimed, seconds since 1970.
    pub claimed_at: Option<f64>,
    /// How often it was claimed.
    pub attempts: i64,
    /// Why it failed, in one line.
    pub message: Option<String>,
    /// What the labelling program said when it failed.
    pub error_log: Option<String>,
    /// Why the atoms in the row are not those that were stored; `candidate` then has no labels. Its atoms are those that
    /// were stored, except in rows of versions that kept no copy of them ([`StoredCandidate::is_restorable`]).
    pub mismatch: Option<String>,
    /// Whether the row has a copy of the atoms that were stored.
    pub is_restorable: bool,
    /// Place in the row of each atom of `candidate`, if somebody has written the atoms back in another order.
    pub row_order: Option<Vec<usize>>,
    /// The candidate.
    pub candidate: Candidate,
}

/// What [`Store::check`] has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Number of rows.
    pub rows: usize,
    /// Rows whose atoms were written back in another order, which is known.
    pub reordered: Vec<i64>,
}

impl StoredCandidate {
    /// Whether it has energy and forces, finite and of its atoms. What a worker writes by itself may be anything.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        let atoms = self.candidate.structure.len();
        self.candidate.labels.as_ref().is_some_and(|labels| labels.check(atoms).is_ok())
    }
}

/// One line of a list of candidates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Its number in the database.
    pub id: i64,
    /// Where it stands.
    pub status: Option<String>,
    /// How many atoms of which element, by symbol.
    pub formula: String,
    /// Number of atoms.
    pub natoms: i64,
    /// When it was added, seconds since 1970.
    pub created: Option<f64>,
    /// Total energy, eV, if it is labelled.
    pub energy: Option<f64>,
    /// All its keys.
    pub keys: Keys,
}

/// The candidate store.
///
/// One `Store` is one connection: give each thread and each process its own.
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
    /// Opens a store, or creates it. Also an ASE database that others have made becomes a store; its rows stay as
    /// they are.
    ///
    /// # Errors
    /// If the file is no ASE database, or one of another version; if it is damaged; if it cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::Create, StoreOptions::default())
    }

    /// Like [`Store::open`], with other waiting times.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::Create, options)
    }

    /// Opens a store that exists. In a database without any table, as a process leaves it that is killed in its first moment,
    /// one is created.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none; otherwise as [`Store::open`].
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, Mode::Existing, StoreOptions::default())
    }

    /// Opens a store for reading; nothing in it or beside it is changed.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none; otherwise as [`Store::open`].
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
        // Without SQLITE_OPEN_URI: a name that begins with `file:` is a name.
        let access = match mode {
            Mode::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Mode::Existing => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Mode::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(err)?;
        conn.busy_timeout(options.busy_timeout).map_err(err)?;
        conn.set_prepared_statement_cache_capacity(64);
        // The file may come from elsewhere: its schema is not trusted, and damaged cells are looked for. Foreign keys
        // are declared but not enforced in ASE, which deletes from `systems` first.
        conn.execute_batch(
            "PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; \
             PRAGMA cell_size_check = ON;",
        )
        .map_err(err)?;
        let store = Self { conn, path: path.to_owned(), lock: LockFile::beside(path), options };
        // One that exists and is blank is that of a process which was killed while it created it.
        if mode != Mode::ReadOnly && store.is_blank().map_err(err)? {
            store.modify("create", |tx| {
                if store.is_blank().map_err(err)? { ase_db::create(tx).map_err(err) } else { Ok(()) }
            })?;
        }
        let found = store.verify()?;
        if found < STORE_VERSION && mode != Mode::ReadOnly {
            store.modify("prepare", |tx| store.migrate(tx))?;
        }
        Ok(store)
    }

    /// Whether there is no table at all.
    fn is_blank(&self) -> rusqlite::Result<bool> {
        self.conn.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))
    }

    /// Checks both versions; gives that of our own tables.
    fn verify(&self) -> Result<i64, StoreError> {
        let err = |e| self.error("open", e);
        let path = || self.path.clone();
        // ASE creates its tables one by one: what looks half made may just be in the making.
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
            None => return Err(StoreError::NotAse { path: path(), detail: "it does not tell its version".into() }),
        }
        let found = self.store_version().map_err(err)?;
        if found > STORE_VERSION {
            return Err(StoreError::StoreVersion { path: path(), found, known: STORE_VERSION });
        }
        Ok(found)
    }

    /// The version of our own tables; 0 if there are none.
    fn store_version(&self) -> rusqlite::Result<i64> {
        if !ase_db::has_table(&self.conn, "otf_meta")? {
            return Ok(0);
        }
        let query = "SELECT CAST(value AS INTEGER) FROM otf_meta WHERE key = 'store_version'";
        Ok(self.conn.query_row(query, [], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    fn migrate(&self, tx: &Connection) -> Result<(), StoreError> {
        let err = |e| self.error("prepare", e);
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

    /// Runs `change` in a write transaction, with ASE's lock file held from before the first read until after the
    /// commit.
    fn modify<T>(
        &self,
        doing: &'static str,
        change: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut watch = Watch::default();
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let (transaction, guard) = loop {
            let transaction = self.begin(doing)?;
            if let Some(guard) =
                self.lock.try_take(&mut watch, self.options.stale_lock_after).map_err(|e| self.lock_error(doing, e))?
            {
                break (transaction, guard);
            }
            // ASE holds the file and may be waiting for the transaction.
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

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds candidates, all or none, and gives their numbers. They wait for a label, or are done if they have one.
    ///
    /// When this returns they are on the disk.
    ///
    /// # Errors
    /// If a candidate is not sound (then nothing is stored), or if the database cannot be written.
    pub fn add(&mut self, candidates: &[Candidate]) -> Result<Vec<i64>, StoreError> {
        let rows = self.checked(candidates)?;
        self.add_as(&rows)
    }

    /// The candidates with the status that they begin with.
    fn checked<'c>(&self, candidates: &'c [Candidate]) -> Result<Vec<(&'c Candidate, Status)>, StoreError> {
        let status = |c: &Candidate| if c.labels.is_some() { Status::Done } else { Status::PendingDft };
        let rows: Vec<_> = candidates.iter().map(|candidate| (candidate, status(candidate))).collect();
        Self::check_rows(&rows)?;
        Ok(rows)
    }

    /// Adds candidates with a status of their own; `RUNNING_DFT` becomes `PENDING_DFT`, for nobody works on them here.
    ///
    /// # Errors
    /// As [`Store::add`]; also if a candidate is `DONE` without labels.
    pub fn add_as(&mut self, rows: &[(&Candidate, Status)]) -> Result<Vec<i64>, StoreError> {
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
                let reason = "the store uses this key itself".into();
                return Err(StoreError::InvalidKey { key: key.into(), reason });
            }
            if *status == Status::Done && candidate.labels.is_none() {
                return Err(StoreError::InvalidCandidate("it is DONE, but has no energy and forces".into()));
            }
        }
        Ok(())
    }

    /// Inserts candidates that were checked; the caller holds a transaction.
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

    /// Adds a candidate that waits for a label, unless `known` says that the store has its like: it is shown the rows with
    /// numbers above `after`, ascending, whoever added them. Nobody can add anything between its answer and this
    /// candidate. Rows that cannot be understood are not shown.
    ///
    /// # Errors
    /// As [`Store::add`].
    pub fn add_unless(
        &mut self,
        candidate: &Candidate,
        after: i64,
        known: impl FnOnce(&[StoredCandidate]) -> bool,
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
        if known(&newer) {
            return Ok(None);
        }
        let id = self.insert(&transaction, &[(candidate, Status::PendingDft)])?[0];
        transaction.commit().map_err(|e| self.error("add to", e))?;
        Ok(Some(id))
    }

    /// The candidate with this number.
    ///
    /// # Errors
    /// If there is none, or if its row cannot be understood.
    pub fn get(&self, id: i64) -> Result<StoredCandidate, StoreError> {
        self.find(id)?.ok_or_else(|| self.no_such(id))
    }

    fn no_such(&self, id: i64) -> StoreError {
        StoreError::NoSuchCandidate { path: self.path.clone(), id }
    }

    fn invalid_row(&self, id: i64, reason: String) -> StoreError {
        StoreError::InvalidRow { path: self.path.clone(), id, reason }
    }

    /// The error for a row whose atoms are not those that were stored.
    #[must_use]
    pub fn mismatch(&self, row: &StoredCandidate) -> Option<StoreError> {
        row.mismatch.as_ref().map(|reason| StoreError::Mismatch {
            path: self.path.clone(),
            id: row.id,
            reason: reason.clone(),
            restorable: row.is_restorable,
        })
    }

    /// Reads a row: the one way from the database to a candidate, on which it is compared with what was stored.
    fn find(&self, id: i64) -> Result<Option<StoredCandidate>, StoreError> {
        let query = format!("SELECT {} FROM systems WHERE id = ?1", ase_db::READ_COLUMNS);
        let raw = self
            .conn
            .prepare_cached(&query)
            .and_then(|mut statement| statement.query_row([id], ase_db::read_row).optional())
            .map_err(|e| match e {
                // A column of a type that ASE never writes.
                rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::Utf8Error(..) => {
                    self.invalid_row(id, e.to_string())
                }
                e => self.error("read", e),
            })?;
        let Some(raw) = raw else { return Ok(None) };
        let ase_db::Understood { candidate, pairs, data, mismatch, row_order } =
            raw.understand().map_err(|reason| self.invalid_row(id, reason))?;
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
            candidate,
        }))
    }

    /// The numbers of the candidates with this status (or of all rows), ascending.
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

    /// The candidates with this status (or all rows), read one by one; rows deleted meanwhile are left out.
    ///
    /// # Errors
    /// If the database cannot be read; each item can be an error of its own row.
    pub fn iter(
        &self,
        status: Option<Status>,
    ) -> Result<impl Iterator<Item = Result<StoredCandidate, StoreError>> + '_, StoreError> {
        Ok(self.ids(status)?.into_iter().filter_map(|id| self.find(id).transpose()))
    }

    /// One line for each candidate with this status (or for each row), without reading its atoms.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn summaries(&self, status: Option<Status>) -> Result<Vec<Summary>, StoreError> {
        let err = |e| self.error("read", e);
        // One snapshot: a row and its species belong together.
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

    /// How many candidates there are of each status.
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
            // Other texts are another program's.
            if let Some(slot) = text.parse().ok().and_then(|status| by_status.get_mut(&status)) {
                *slot += count;
            }
        }
        Ok(by_status)
    }

    /// The pairs of a row and the status among them; for use in a transaction.
    fn pairs(&self, tx: &Connection, id: i64) -> Result<(Keys, Option<Status>), StoreError> {
        let pairs = ase_db::read_pairs(tx, id).map_err(|e| self.error("read", e))?;
        let pairs = pairs.ok_or_else(|| self.no_such(id))?.map_err(|reason| self.invalid_row(id, reason))?;
        let status = pairs.get("status").and_then(KeyValue::as_text).and_then(|status| status.parse().ok());
        Ok((pairs, status))
    }

    /// Moves a row to another status; what belongs to the old one goes.
    fn transition(
        &self,
        tx: &Connection,
        id: i64,
        to: Status,
        change: impl FnOnce(&mut Keys),
    ) -> Result<(), StoreError> {
        let err = |e| self.error("change", e);
        let (mut pairs, from) = self.pairs(tx, id)?;
        if !from.is_some_and(|from| from.may_become(to)) {
            return Err(StoreError::Transition { id, from, to });
        }
        pairs.insert("status".into(), to.as_str().into());
        if to != Status::RunningDft {
            pairs.remove("claimed_at");
        }
        if matches!(to, Status::PendingDft | Status::RunningDft) {
            pairs.remove("worker");
            pairs.remove("message");
            let log = [(ase_db::data_names::ERROR_LOG, None)];
            ase_db::update_data(tx, id, &log).map_err(err)?.map_err(|reason| self.invalid_row(id, reason))?;
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

    /// Moves a candidate to another status by hand: reject it, or send a failed one back to be labelled.
    ///
    /// # Errors
    /// [`StoreError::Transition`] if the one cannot follow the other, which includes every way to `DONE`: labels make
    /// a candidate done, see [`Store::finish`] and [`Store::import_labels`].
    pub fn set_status(&mut self, id: i64, to: Status) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            if matches!(to, Status::Done | Status::RunningDft) {
                return Err(StoreError::Transition { id, from: self.pairs(tx, id)?.1, to });
            }
            self.transition(tx, id, to, |_| {})
        })
    }

    /// Takes the oldest candidate that waits for a label; no other worker gets the same one.
    ///
    /// `worker` names the caller; it should be different for every worker that ever runs (host, process, counter),
    /// so that one whose claim was released cannot pass for the next. A row that cannot be understood, or whose atoms
    /// are not those that were stored, is set to `FAILED`, and the next one is taken.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn claim(&mut self, worker: &str) -> Result<Option<StoredCandidate>, StoreError> {
        self.modify("claim from", |tx| {
            for id in self.ids(Some(Status::PendingDft))? {
                if let Some(claimed) = self.claim_row(tx, id, worker)? {
                    return Ok(Some(claimed));
                }
            }
            Ok(None)
        })
    }

    /// Takes this candidate, if it still waits for a label.
    ///
    /// # Errors
    /// If there is no such candidate, or if the database cannot be written.
    pub fn claim_id(&mut self, id: i64, worker: &str) -> Result<Option<StoredCandidate>, StoreError> {
        self.modify("claim from", |tx| self.claim_row(tx, id, worker))
    }

    fn claim_row(&self, tx: &Connection, id: i64, worker: &str) -> Result<Option<StoredCandidate>, StoreError> {
        let (pairs, status) = match self.pairs(tx, id) {
            // Not even its keys can be read, so nothing can be written down in it either.
            Err(StoreError::InvalidRow { .. }) => return Ok(None),
            other => other?,
        };
        if status != Some(Status::PendingDft) {
            // The search tables said so, the row itself does not. What the row says counts, as it does for ASE.
            if self.ids(Some(Status::PendingDft))?.contains(&id) {
                ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("claim from", e))?;
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
            ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("claim from", e))?;
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

    /// Tells that a worker is still at work, so that its claim does not grow stale.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`] if another worker has the candidate, or nobody.
    pub fn heartbeat(&mut self, id: i64, worker: &str) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            let mut pairs = self.held_by(tx, id, worker)?;
            pairs.insert("claimed_at".into(), ase_db::unix_now().into());
            ase_db::update_pairs(tx, id, &pairs).map_err(|e| self.error("change", e))
        })
    }

    /// The pairs of a row that this worker holds.
    fn held_by(&self, tx: &Connection, id: i64, worker: &str) -> Result<Keys, StoreError> {
        let (pairs, status) = self.pairs(tx, id)?;
        let holder = pairs.get("worker").and_then(KeyValue::as_text).unwrap_or("nobody");
        if status != Some(Status::RunningDft) || holder != keys::quote_number(worker) {
            let holder = if status == Some(Status::RunningDft) { holder } else { "nobody" };
            return Err(StoreError::ClaimLost { id, worker: worker.to_owned(), holder: holder.to_owned() });
        }
        Ok(pairs)
    }

    /// Stores the labels of a candidate that this worker has claimed; it is then `DONE`.
    ///
    /// # Errors
    /// If the labels do not fit or are not finite, or [`StoreError::ClaimLost`].
    pub fn finish(&mut self, id: i64, worker: &str, labels: &Labels) -> Result<(), StoreError> {
        self.modify("label in", |tx| {
            self.held_by(tx, id, worker)?;
            self.store_labels(tx, id, labels)?;
            self.transition(tx, id, Status::Done, |_| {})
        })
    }

    /// Stores labels that were computed elsewhere, for a candidate that waits, runs or has failed.
    ///
    /// # Errors
    /// If the labels do not fit or are not finite, or [`StoreError::Transition`] if it is done or rejected.
    pub fn import_labels(&mut self, id: i64, labels: &Labels) -> Result<(), StoreError> {
        self.modify("label in", |tx| {
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

    fn store_labels(&self, tx: &Connection, id: i64, labels: &Labels) -> Result<(), StoreError> {
        let row = self.find(id)?.ok_or_else(|| self.no_such(id))?;
        let invalid = |reason| StoreError::InvalidLabels { id, reason };
        labels.check(row.candidate.structure.len()).map_err(invalid)?;
        if let Some(reason) = row.mismatch {
            return Err(invalid(format!("the atoms of its row are not those that were stored: {reason}")));
        }
        let mut labels = labels.clone();
        if let Some(order) = row.row_order {
            let forces = labels.forces.clone();
            order.iter().enumerate().for_each(|(i, &at)| labels.forces.row_mut(at).assign(&forces.row(i)));
        }
        ase_db::update_labels(tx, id, Some(&labels)).map_err(|e| self.error("label in", e))
    }

    /// Writes down that the label of a claimed candidate could not be computed; it is then `FAILED`. The log's first
    /// line becomes the key `message`, its last 64 KiB `row.data["error_log"]`.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`], or if the database cannot be written.
    pub fn fail(&mut self, id: i64, worker: &str, log: &str) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            self.held_by(tx, id, worker)?;
            self.transition(tx, id, Status::Failed, |pairs| {
                pairs.insert("message".into(), one_line(log).into());
            })?;
            let start = (log.len().saturating_sub(LOG_LIMIT)..=log.len()).find(|&i| log.is_char_boundary(i));
            let log = Data::Text(log[start.unwrap_or(0)..].to_owned());
            ase_db::update_data(tx, id, &[(ase_db::data_names::ERROR_LOG, Some(log))])
                .map_err(|e| self.error("change", e))?
                .map_err(|reason| self.invalid_row(id, reason))
        })
    }

    /// Gives a claimed candidate back, without a label.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`], or if the database cannot be written.
    pub fn release(&mut self, id: i64, worker: &str) -> Result<(), StoreError> {
        self.modify("change", |tx| {
            self.held_by(tx, id, worker)?;
            self.transition(tx, id, Status::PendingDft, |_| {})
        })
    }

    /// Gives every candidate back whose worker has not been heard of for longer than `age`, and tells which. For
    /// workers that do not write the key `claimed_at`, the last change of the row counts.
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
                let heard = pairs.get("claimed_at").and_then(KeyValue::as_f64).or(changed.map(ase_db::unix_time));
                if status == Some(Status::RunningDft) && heard.is_none_or(|heard| heard <= oldest) {
                    self.transition(tx, id, Status::PendingDft, |_| {})?;
                    released.push(id);
                }
            }
            Ok(released)
        })
    }

    /// A value that a program has put down with [`Store::set_meta`].
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

    /// Puts a value down under a name, in our own table `otf_meta`, which ASE does not see.
    ///
    /// # Errors
    /// If the name is one of the store's own (`store_version`, `written_by`), or if the database cannot be written.
    pub fn set_meta(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        if matches!(key, "store_version" | "written_by") {
            let reason = "the store uses this name itself".into();
            return Err(StoreError::InvalidKey { key: key.into(), reason });
        }
        let err = |e| self.error("write", e);
        let transaction = self.begin("write")?;
        transaction.execute("INSERT OR REPLACE INTO otf_meta VALUES (?1, ?2)", [key, value]).map_err(err)?;
        transaction.commit().map_err(err)
    }

    /// Reads the whole database and checks it: SQLite's structures, that every row can be understood, and that its atoms
    /// are those that were stored.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::InvalidRow`] or [`StoreError::Mismatch`] with the first thing that is
    /// wrong.
    pub fn check(&self) -> Result<Checked, StoreError> {
        let problems = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.conn.prepare("PRAGMA integrity_check(5)")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let problems = problems().map_err(|e| self.error("check", e))?;
        if problems != ["ok"] {
            let detail = problems.join("; ").replace('\n', " ");
            return Err(StoreError::Corrupt { path: self.path.clone(), detail });
        }
        let mut checked = Checked { rows: 0, reordered: Vec::new() };
        for row in self.iter(None)? {
            let row = row?;
            self.mismatch(&row).map_or(Ok(()), Err)?;
            checked.rows += 1;
            checked.reordered.extend(row.row_order.map(|_| row.id));
        }
        Ok(checked)
    }

    /// Copies the database to a new file, also while others work on it.
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
        // SQLite takes a name that begins with `file:` for a URI here, whatever the flags.
        let name = if name.starts_with("file:") { format!("./{name}") } else { name.to_owned() };
        self.conn
            .execute("VACUUM INTO ?1", [name])
            .map(|_| ())
            .map_err(|e| StoreError::sqlite(to, "write a backup to", self.options.busy_timeout, e))
    }
}

impl StoredCandidate {
    /// Its keys, by themselves.
    #[must_use]
    pub fn keys(&self) -> &CandidateKeys {
        &self.candidate.keys
    }
}

/// The first line of a text that says something, short enough for a key.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
    keys::quote_number(&line.chars().take(200).collect::<String>())
}
