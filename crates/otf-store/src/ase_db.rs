// SPDX-License-Identifier: GPL-2.0-or-later
//! Version 9 of ASE's SQLite schema, and the representation of a candidate in it.
//!
//! Arrays in columns are raw little-endian bytes in row-major order: `int32` for atomic numbers, `float64` otherwise. The
//! periodic directions are a bit mask (1, 2, 4). Times are years of 365.25 days since 1 January 2000. Key-value pairs are
//! stored twice: as JSON in the row, which ASE reads, and in tables, which ASE searches.
//!
//! ASE's cell has no origin, so positions are stored relative to it. ASE's schema has no columns for additional atom
//! arrays, so these are in the `data` column (see [`data_names`]).

use super::blob::{self, Data, from_bytes, parse_json};
use super::keys::{self, KeyValue, Keys};
use super::{Candidate, CandidateKeys, Labels, StoreError, identity};
use mendeleev::Element;
use ndarray::{Array1, Array2, Axis};
use otf_atoms::structure::{Cell, Structure, Vec3, nonstandard_masses, standard_mass};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The supported version of ASE's schema.
pub const SCHEMA_VERSION: i64 = 9;

/// Names of the entries of `row.data`, for data without a column in ASE's schema.
pub mod data_names {
    /// The force mask, `float64` (n).
    pub const FORCE_MASK: &str = "force_mask";
    /// Id of each atom in the parent frame, `int32` (n), or `int64` if an id needs it.
    pub const SOURCE_ID: &str = "source_id";
    /// Periodic image of each atom in the parent frame, `int32` (n, 3).
    pub const SOURCE_IMAGE: &str = "source_image";
    /// Extrapolation grade of each atom in the parent frame, `float64` (n).
    pub const ATOM_GAMMA: &str = "atom_gamma";
    /// Norm of label minus prediction of the potential that ran, eV/Å, `float64` (n); NaN in the buffer.
    pub const FORCE_ERROR: &str = "force_error";
    /// The same of the newest potential.
    pub const FORCE_ERROR_NEWEST: &str = "force_error_newest";
    /// Core share of each atom in the parent frame, `float64` (n).
    pub const ATOM_CORE_SHARE: &str = "atom_core_share";
    /// Id of each atom in the candidate, `int32` (n), or `int64` if an id needs it.
    pub const ATOM_ID: &str = "atom_id";
    /// Type of each atom, from 1, `int32` (n).
    pub const ATOM_TYPE: &str = "atom_type";
    /// Element symbol of each type, list.
    pub const TYPE_SYMBOLS: &str = "type_symbols";
    /// Corner of the cell, Å, `float64` (3).
    pub const ORIGIN: &str = "origin";
    /// Output of the oracle if it failed.
    pub const ERROR_LOG: &str = "error_log";
    /// The atoms to which the arrays above belong, in their order, even if the atoms of the row have changed: a dictionary
    /// with `numbers`, `int32` (n); `positions`, Å, `float64` (n, 3); `cell`, Å, `float64` (3, 3); `pbc`, three flags.
    pub const STORED_ATOMS: &str = "stored_atoms";
}

/// The columns of `systems`, in ASE's order.
const COLUMNS: [(&str, &str); 33] = [
    ("id", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    ("unique_id", "TEXT UNIQUE"),
    ("ctime", "REAL"),
    ("mtime", "REAL"),
    ("username", "TEXT"),
    ("numbers", "BLOB"),
    ("positions", "BLOB"),
    ("cell", "BLOB"),
    ("pbc", "INTEGER"),
    ("initial_magmoms", "BLOB"),
    ("initial_charges", "BLOB"),
    ("masses", "BLOB"),
    ("tags", "BLOB"),
    ("momenta", "BLOB"),
    ("constraints", "TEXT"),
    ("calculator", "TEXT"),
    ("calculator_parameters", "TEXT"),
    ("energy", "REAL"),
    ("free_energy", "REAL"),
    ("forces", "BLOB"),
    ("stress", "BLOB"),
    ("dipole", "BLOB"),
    ("magmoms", "BLOB"),
    ("magmom", "REAL"),
    ("charges", "BLOB"),
    ("key_value_pairs", "TEXT"),
    ("data", "BLOB"),
    ("natoms", "INTEGER"),
    ("fmax", "REAL"),
    ("smax", "REAL"),
    ("volume", "REAL"),
    ("mass", "REAL"),
    ("charge", "REAL"),
];

/// The columns read by [`read_row`], in its order.
pub const READ_COLUMNS: &str = "unique_id, ctime, mtime, numbers, positions, cell, pbc, masses, momenta, \
     calculator, energy, free_energy, forces, stress, key_value_pairs, data";

/// One ps in ASE's unit of time, Å √(u/eV), with the constants of ASE (CODATA 2014).
fn picosecond() -> f64 {
    const ELECTRON_VOLT: f64 = 1.602_176_620_8e-19;
    const ATOMIC_MASS: f64 = 1.660_539_040e-27;
    1e-12 * 1e10 * (ELECTRON_VOLT / ATOMIC_MASS).sqrt()
}

/// The current time in seconds since 1970.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Converts seconds since 1970 to ASE's time, years since 2000, with the constants of ASE.
pub fn ase_time(unix: f64) -> f64 {
    (unix - 946_681_200.0) / 31_557_600.0
}

/// Converts ASE's time to seconds since 1970.
pub fn unix_time(ase: f64) -> f64 {
    ase * 31_557_600.0 + 946_681_200.0
}

/// Creates the tables. The caller holds a transaction.
pub fn create(conn: &Connection) -> rusqlite::Result<()> {
    let columns: Vec<_> = COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    conn.execute_batch(&format!("CREATE TABLE systems ({});", columns.join(", ")))?;
    for (table, columns) in [
        ("species", "Z INTEGER, n INTEGER"),
        ("keys", "key TEXT"),
        ("text_key_values", "key TEXT, value TEXT"),
        ("number_key_values", "key TEXT, value REAL"),
    ] {
        conn.execute_batch(&format!(
            "CREATE TABLE {table} ({columns}, id INTEGER, FOREIGN KEY (id) REFERENCES systems(id));"
        ))?;
    }
    conn.execute_batch("CREATE TABLE information (name TEXT, value TEXT);")?;
    conn.execute("INSERT INTO information VALUES ('version', ?1)", [SCHEMA_VERSION.to_string()])?;
    conn.execute("INSERT INTO information VALUES ('metadata', ?1)", [metadata().to_string()])?;
    for (index, column) in [
        ("unique_id_index", "systems(unique_id)"),
        ("ctime_index", "systems(ctime)"),
        ("username_index", "systems(username)"),
        ("calculator_index", "systems(calculator)"),
        ("species_index", "species(Z)"),
        ("key_index", "keys(key)"),
        ("text_index", "text_key_values(key)"),
        ("number_index", "number_key_values(key)"),
    ] {
        conn.execute_batch(&format!("CREATE INDEX {index} ON {column};"))?;
    }
    Ok(())
}

/// The metadata shown by ASE's web page and by `ase db --show-metadata`: short description, long description and unit of
/// each key.
fn metadata() -> serde_json::Value {
    serde_json::json!({
        "title": "lammps-otf candidates",
        "key_descriptions": {
            "status": ["Status", "PENDING_DFT, RUNNING_DFT, DONE, FAILED or REJECTED", ""],
            "gamma": ["γ", "Extrapolation grade of the centre when it was found", ""],
            "step": ["Step", "Timestep of the run", ""],
            "center": ["Centre", "Index of the centre atom, from 0", ""],
            "center_id": ["Centre id", "Id of the centre atom in the frame it was cut from", ""],
            "radius": ["Radius", "Radius of the trusted core (force mask 1)", "Å"],
            "buffer": ["Buffer", "Width of the shell around the core (force mask 0)", "Å"],
            "energy_weight": ["w_E", "Weight of the energy in training: 0 for a cut-out", ""],
            "stress_weight": ["w_S", "Weight of the stress in training: 0 for a cut-out", ""],
        },
        "default_columns": ["id", "age", "formula", "status", "gamma", "step", "center_id", "natoms", "energy"],
    })
}

/// Whether the table exists. A query is used because `Connection::table_exists` uses the cached schema of the connection,
/// without tables created by other processes.
pub fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    conn.prepare_cached(query)?.query_row([name], |row| row.get(0))
}

/// The reason why the database is not an ASE database; `None` if it is one.
pub fn not_ase(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let mut statement = conn.prepare("SELECT name FROM pragma_table_info('systems') ORDER BY cid")?;
    let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Ok(Some("it has no table `systems`".into()));
    }
    if !COLUMNS.iter().all(|(name, _)| found.iter().any(|other| other == name)) {
        return Ok(Some("its table `systems` does not have the columns of ASE".into()));
    }
    for table in ["species", "keys", "text_key_values", "number_key_values", "information"] {
        if !has_table(conn, table)? {
            return Ok(Some(format!("it has no table `{table}`")));
        }
    }
    Ok(None)
}

/// The version of ASE's schema; `None` if it is missing.
pub fn schema_version(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    let text = "SELECT CAST(value AS INTEGER) FROM information WHERE name = 'version'";
    conn.query_row(text, [], |row| row.get(0)).optional().map(Option::flatten)
}

fn floats(values: impl IntoIterator<Item = f64>) -> Vec<u8> {
    values.into_iter().flat_map(f64::to_le_bytes).collect()
}

/// The volume of a cell, Å³; `None` if it is 0, as in ASE.
fn volume(vectors: &[Vec3; 3]) -> Option<f64> {
    let [a, b, c] = vectors;
    let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    let volume = (a[0] * cross[0] + a[1] * cross[1] + a[2] * cross[2]).abs();
    (volume > 0.0).then_some(volume)
}

/// Positions relative to the origin of the cell, as in ASE, in row-major order.
fn relative_positions(structure: &Structure) -> Vec<f64> {
    let origin = structure.cell.origin;
    structure.positions.rows().into_iter().flat_map(|r| [0, 1, 2].map(|k| r[k] - origin[k])).collect()
}

/// The periodic directions as ASE's bit mask.
fn pbc_mask(pbc: [bool; 3]) -> u8 {
    u8::from(pbc[0]) | u8::from(pbc[1]) << 1 | u8::from(pbc[2]) << 2
}

fn elements_of(structure: &Structure) -> Vec<Element> {
    (0..structure.len()).map(|i| structure.element(i)).collect()
}

fn number_bytes(elements: &[Element]) -> Vec<u8> {
    elements.iter().flat_map(|e| e.atomic_number().to_le_bytes()).collect()
}

fn insert_species(conn: &Connection, id: i64, elements: &[Element]) -> rusqlite::Result<()> {
    let mut counts = BTreeMap::<u32, i64>::new();
    for element in elements {
        *counts.entry(element.atomic_number()).or_default() += 1;
    }
    for (number, count) in counts {
        conn.prepare_cached("INSERT INTO species VALUES (?1, ?2, ?3)")?.execute(params![number, count, id])?;
    }
    Ok(())
}

/// Inserts a checked candidate with these key-value pairs and returns its row id. The caller holds a transaction.
pub fn insert(conn: &Connection, candidate: &Candidate, pairs: &Keys, now: f64) -> rusqlite::Result<i64> {
    let structure = &candidate.structure;
    let elements = elements_of(structure);
    let masses: Vec<f64> = (0..structure.len()).map(|i| structure.mass(i)).collect();
    let momenta = structure.velocities.as_ref().map(|velocities| {
        let rows = velocities.rows().into_iter().zip(&masses);
        floats(rows.flat_map(|(v, mass)| [0, 1, 2].map(|k| v[k] * mass / picosecond())))
    });
    let labels = candidate.labels.as_ref().map(LabelColumns::new);
    conn.prepare_cached(
        "INSERT INTO systems (unique_id, ctime, mtime, username, numbers, positions, cell, pbc, masses, momenta, \
         calculator, calculator_parameters, energy, free_energy, forces, stress, key_value_pairs, data, natoms, \
         fmax, smax, volume, mass, charge) \
         VALUES (lower(hex(randomblob(16))), ?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
         ?16, ?17, ?18, ?19, ?20, ?21, 0.0)",
    )?
    .execute(params![
        ase_time(now),
        std::env::var("USER").ok(),
        number_bytes(&elements),
        floats(relative_positions(structure)),
        floats(structure.cell.vectors.as_flattened().iter().copied()),
        pbc_mask(structure.cell.pbc),
        // The masses of ASE differ in the last digits. With momenta, the masses used for them must be stored.
        (momenta.is_some() || structure.masses.is_some()).then(|| floats(masses.iter().copied())),
        momenta,
        labels.as_ref().map(|l| &l.calculator),
        labels.as_ref().map(|_| "{}"),
        labels.as_ref().map(|l| l.energy),
        labels.as_ref().and_then(|l| l.free_energy),
        labels.as_ref().map(|l| &l.forces),
        labels.as_ref().and_then(|l| l.stress.as_ref()),
        json(pairs),
        blob::encode(&data(candidate)),
        i64::try_from(structure.len()).unwrap_or(i64::MAX),
        labels.as_ref().map(|l| l.fmax),
        labels.as_ref().and_then(|l| l.smax),
        volume(&structure.cell.vectors),
        masses.iter().sum::<f64>(),
    ])?;
    let id = conn.last_insert_rowid();
    insert_species(conn, id, &elements)?;
    insert_pairs(conn, id, pairs)?;
    Ok(id)
}

/// The entries of `row.data`.
fn data(candidate: &Candidate) -> BTreeMap<String, Data> {
    let structure = &candidate.structure;
    let symbols = structure.elements.iter().map(|element| Data::Text(element.symbol().to_owned())).collect();
    let images = candidate.source_images.as_flattened().to_vec();
    let mut data = BTreeMap::from([
        (data_names::FORCE_MASK.to_owned(), Data::floats(candidate.force_mask.clone())),
        (data_names::SOURCE_ID.to_owned(), Data::ids(&candidate.source_ids)),
        (
            data_names::SOURCE_IMAGE.to_owned(),
            Data::Array(blob::Array { shape: vec![images.len() / 3, 3], values: blob::Values::I32(images) }),
        ),
        (data_names::ATOM_ID.to_owned(), Data::ids(&structure.ids.to_vec())),
        (data_names::ATOM_TYPE.to_owned(), Data::ints(structure.types.to_vec())),
        (data_names::TYPE_SYMBOLS.to_owned(), Data::List(symbols)),
        (data_names::STORED_ATOMS.to_owned(), stored_atoms(structure)),
    ]);
    if structure.cell.origin != [0.0; 3] {
        data.insert(data_names::ORIGIN.to_owned(), Data::floats(structure.cell.origin.to_vec()));
    }
    if let Some(gamma) = &candidate.atom_gamma {
        data.insert(data_names::ATOM_GAMMA.to_owned(), Data::floats(gamma.clone()));
    }
    if let Some(shares) = &candidate.atom_core_share {
        data.insert(data_names::ATOM_CORE_SHARE.to_owned(), Data::floats(shares.clone()));
    }
    data
}

/// A copy of the atoms, which is preserved when a label is written.
fn stored_atoms(structure: &Structure) -> Data {
    let vectors = |values: Vec<f64>| {
        Data::Array(blob::Array { shape: vec![values.len() / 3, 3], values: blob::Values::F64(values) })
    };
    let numbers = elements_of(structure).iter().map(|e| i32::try_from(e.atomic_number()).unwrap_or(0)).collect();
    Data::Map(BTreeMap::from([
        ("numbers".to_owned(), Data::ints(numbers)),
        ("positions".to_owned(), vectors(relative_positions(structure))),
        ("cell".to_owned(), vectors(structure.cell.vectors.as_flattened().to_vec())),
        ("pbc".to_owned(), Data::List(structure.cell.pbc.map(Data::Bool).into())),
    ]))
}

/// The pairs as JSON in ASE's format.
fn json(pairs: &Keys) -> String {
    let mut text = String::from("{");
    for (index, (key, value)) in pairs.iter().enumerate() {
        text.push_str(if index > 0 { ", " } else { "" });
        text.push_str(&serde_json::Value::from(key.as_str()).to_string());
        text.push_str(": ");
        match value {
            KeyValue::Float(float) => blob::push_float(&mut text, *float),
            KeyValue::Bool(flag) => text.push_str(&flag.to_string()),
            KeyValue::Int(int) => text.push_str(&int.to_string()),
            KeyValue::Text(string) => text.push_str(&serde_json::Value::from(string.as_str()).to_string()),
        }
    }
    text + "}"
}

fn insert_pairs(conn: &Connection, id: i64, pairs: &Keys) -> rusqlite::Result<()> {
    for (key, value) in pairs {
        conn.prepare_cached("INSERT INTO keys VALUES (?1, ?2)")?.execute(params![key, id])?;
        if let Some(text) = value.as_text() {
            conn.prepare_cached("INSERT INTO text_key_values VALUES (?1, ?2, ?3)")?.execute(params![key, text, id])?;
        } else {
            let number = value.as_f64().filter(|number| !number.is_nan());
            conn.prepare_cached("INSERT INTO number_key_values VALUES (?1, ?2, ?3)")?
                .execute(params![key, number, id])?;
        }
    }
    Ok(())
}

/// Replaces the pairs of a row. The caller holds a transaction and ASE's lock file.
pub fn update_pairs(conn: &Connection, id: i64, pairs: &Keys) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE systems SET mtime = ?1, key_value_pairs = ?2 WHERE id = ?3")?.execute(params![
        ase_time(unix_now()),
        json(pairs),
        id
    ])?;
    for table in ["keys", "text_key_values", "number_key_values"] {
        conn.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([id])?;
    }
    insert_pairs(conn, id, pairs)
}

/// The pairs of a row; `None` if there is no such row. The inner error is the problem if they are invalid.
pub fn read_pairs(conn: &Connection, id: i64) -> rusqlite::Result<Option<Result<Keys, String>>> {
    conn.prepare_cached("SELECT key_value_pairs FROM systems WHERE id = ?1")?
        .query_row([id], |row| row.get::<_, Option<String>>(0))
        .optional()
        .map(|text| text.map(|text| parse_pairs(text.as_deref())))
}

/// Parses the JSON of the pairs. Values that are neither numbers nor text (null, lists) are ignored, as in ASE's search.
pub fn parse_pairs(text: Option<&str>) -> Result<Keys, String> {
    let Some(text) = text else { return Ok(Keys::new()) };
    let serde_json::Value::Object(map) = parse_json(text)? else {
        return Err("its key-value pairs are not a JSON object".into());
    };
    let value = |json: serde_json::Value| match json {
        serde_json::Value::Bool(flag) => Some(KeyValue::Bool(flag)),
        serde_json::Value::Number(number) => {
            number.as_i64().map(KeyValue::Int).or_else(|| number.as_f64().map(KeyValue::Float))
        }
        serde_json::Value::String(text) => Some(KeyValue::Text(text)),
        serde_json::Value::Object(map) => blob::not_finite(&map).map(KeyValue::Float),
        _ => None,
    };
    Ok(map.into_iter().filter_map(|(key, json)| Some((key, value(json)?))).collect())
}

/// Sets entries of `row.data`, or removes them (`None`). The inner error is the problem if `row.data` is invalid.
pub fn update_data(
    conn: &Connection,
    id: i64,
    changes: &[(&str, Option<Data>)],
) -> rusqlite::Result<Result<(), String>> {
    let old: Option<Vec<u8>> = conn
        .prepare_cached("SELECT CAST(data AS BLOB) FROM systems WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    let mut data = match decode_data(old.as_deref()) {
        Ok(data) => data,
        Err(reason) => return Ok(Err(reason)),
    };
    let before = data.clone();
    for (name, value) in changes {
        match value {
            Some(value) => data.insert((*name).to_owned(), value.clone()),
            None => data.remove(*name),
        };
    }
    if data != before {
        conn.prepare_cached("UPDATE systems SET data = ?1 WHERE id = ?2")?.execute(params![blob::encode(&data), id])?;
    }
    Ok(Ok(()))
}

/// Decodes `row.data`, which is empty or `null` in rows without entries.
fn decode_data(bytes: Option<&[u8]>) -> Result<BTreeMap<String, Data>, String> {
    match bytes {
        None | Some(b"null" | b"") => Ok(BTreeMap::new()),
        Some(bytes) => blob::decode(bytes),
    }
}

/// Labels in the form of ASE's columns.
struct LabelColumns {
    calculator: String,
    energy: f64,
    free_energy: Option<f64>,
    forces: Vec<u8>,
    fmax: f64,
    stress: Option<Vec<u8>>,
    smax: Option<f64>,
}

impl LabelColumns {
    fn new(labels: &Labels) -> Self {
        Self {
            calculator: labels.calculator.as_deref().unwrap_or("unknown").to_lowercase(),
            energy: labels.energy,
            free_energy: labels.free_energy,
            forces: floats(labels.forces.iter().copied()),
            fmax: labels.largest_force(),
            stress: labels.stress.map(floats),
            smax: labels.stress.map(|stress| stress.iter().fold(0.0, |max, s| f64::max(max, s.abs()))),
        }
    }
}

/// Sets the labels of a row, or removes them (`None`).
pub fn update_labels(conn: &Connection, id: i64, labels: Option<&Labels>) -> rusqlite::Result<()> {
    let labels = labels.map(LabelColumns::new);
    conn.prepare_cached(
        "UPDATE systems SET calculator = ?1, calculator_parameters = ?2, energy = ?3, free_energy = ?4, forces = ?5, \
         fmax = ?6, stress = ?7, smax = ?8 WHERE id = ?9",
    )?
    .execute(params![
        labels.as_ref().map(|l| &l.calculator),
        labels.as_ref().map(|_| "{}"),
        labels.as_ref().map(|l| l.energy),
        labels.as_ref().and_then(|l| l.free_energy),
        labels.as_ref().map(|l| &l.forces),
        labels.as_ref().map(|l| l.fmax),
        labels.as_ref().and_then(|l| l.stress.as_ref()),
        labels.as_ref().and_then(|l| l.smax),
        id,
    ])?;
    Ok(())
}

/// Restores the stored atoms of a row and removes the data of the atoms that replaced them, including the labels. The
/// caller holds a transaction and ASE's lock file.
pub fn restore_atoms(conn: &Connection, id: i64, structure: &Structure) -> rusqlite::Result<()> {
    update_labels(conn, id, None)?;
    let elements = elements_of(structure);
    conn.prepare_cached(
        "UPDATE systems SET numbers = ?1, positions = ?2, cell = ?3, pbc = ?4, natoms = ?5, volume = ?6, mass = ?7, \
         masses = NULL, momenta = NULL, tags = NULL, initial_magmoms = NULL, initial_charges = NULL, charge = 0.0, \
         constraints = NULL, dipole = NULL, magmoms = NULL, magmom = NULL, charges = NULL WHERE id = ?8",
    )?
    .execute(params![
        number_bytes(&elements),
        floats(relative_positions(structure)),
        floats(structure.cell.vectors.as_flattened().iter().copied()),
        pbc_mask(structure.cell.pbc),
        i64::try_from(structure.len()).unwrap_or(i64::MAX),
        volume(&structure.cell.vectors),
        (0..structure.len()).map(|i| structure.mass(i)).sum::<f64>(),
        id,
    ])?;
    conn.prepare_cached("DELETE FROM species WHERE id = ?1")?.execute([id])?;
    insert_species(conn, id, &elements)
}

/// A row of `systems`, not yet parsed.
pub struct RawRow {
    /// 32 hexadecimal digits. ASE changes them when it replaces the atoms of a row.
    pub unique_id: Option<String>,
    /// ASE times of creation and of the last change.
    pub times: [Option<f64>; 2],
    numbers: Option<Vec<u8>>,
    positions: Option<Vec<u8>>,
    cell: Option<Vec<u8>>,
    pbc: Option<i64>,
    masses: Option<Vec<u8>>,
    momenta: Option<Vec<u8>>,
    calculator: Option<String>,
    energy: Option<f64>,
    free_energy: Option<f64>,
    forces: Option<Vec<u8>>,
    stress: Option<Vec<u8>>,
    pairs: Option<String>,
    data: Option<Vec<u8>>,
}

/// Reads a row with the columns [`READ_COLUMNS`].
pub fn read_row(row: &Row) -> rusqlite::Result<RawRow> {
    // Rows of old versions of ASE have text instead of bytes, and empty lists instead of nulls.
    let bytes = |index: usize| -> rusqlite::Result<Option<Vec<u8>>> {
        Ok(match row.get_ref(index)? {
            rusqlite::types::ValueRef::Blob(bytes) | rusqlite::types::ValueRef::Text(bytes) => Some(bytes.to_vec()),
            _ => None,
        })
    };
    Ok(RawRow {
        unique_id: row.get(0)?,
        times: [row.get(1)?, row.get(2)?],
        numbers: bytes(3)?,
        positions: bytes(4)?,
        cell: bytes(5)?,
        pbc: row.get(6)?,
        masses: bytes(7)?,
        momenta: bytes(8)?,
        calculator: row.get(9)?,
        energy: row.get(10)?,
        free_energy: row.get(11)?,
        forces: bytes(12)?,
        stress: bytes(13)?,
        pairs: row.get(14)?,
        data: bytes(15)?,
    })
}

/// The content of a row.
pub struct ParsedRow {
    /// The candidate as stored, with labels only if they belong to its atoms.
    pub candidate: Candidate,
    /// [`data_names::FORCE_ERROR`] and [`data_names::FORCE_ERROR_NEWEST`].
    pub force_errors: (Option<Vec<f64>>, Option<Vec<f64>>),
    /// All keys.
    pub pairs: Keys,
    /// All of `row.data`.
    pub data: BTreeMap<String, Data>,
    /// The difference between the atoms of the row and those of the candidate, if any.
    pub mismatch: Option<String>,
    /// Index in the row of each atom of the candidate, if the order differs.
    pub row_order: Option<Vec<usize>>,
}

impl RawRow {
    /// Parses the row. All rows written by ASE are accepted.
    ///
    /// # Errors
    /// A message with the problem if the row is invalid.
    pub fn parse(&self) -> Result<ParsedRow, String> {
        let data = decode_data(self.data.as_deref())?;
        let pairs = parse_pairs(self.pairs.as_deref())?;
        let own = self.own_atoms()?;
        let in_row = own.numbers.len();
        let (structure, mut mismatch, order) = match entry(&data, data_names::STORED_ATOMS) {
            None => (own.structure(&data)?, None, (0..in_row).collect()),
            Some(stored) => {
                let stored = Atoms::stored(stored)
                    .ok_or_else(|| format!("its {} is malformed", data_names::STORED_ATOMS))?
                    .structure(&data)?;
                match identity::recover_order(&stored, &own.structure(&data)?) {
                    Ok(order) => (stored, None, order),
                    Err(why) => (stored, Some(why), Vec::new()),
                }
            }
        };
        let n = structure.len();
        let not_integers = |name: &str| format!("its {name} has values that are not integers");
        let ints = |name: &str, width: usize| -> Result<Option<Vec<i64>>, String> {
            let Some(value) = entry(&data, name) else { return Ok(None) };
            let values = value.to_i64().ok_or_else(|| not_integers(name))?;
            let fits = values.len() == width * n;
            fits.then_some(Some(values)).ok_or_else(|| format!("its {name} does not have values for {n} atoms"))
        };
        let numbers_of = |name: &str| -> Result<Option<Vec<f64>>, String> {
            let Some(value) = entry(&data, name) else { return Ok(None) };
            let values = value.to_f64().filter(|values| values.len() == n);
            values.map(Some).ok_or_else(|| format!("its {name} does not have {n} numbers"))
        };
        let ids = ints(data_names::ATOM_ID, 1)?.unwrap_or_else(|| (1..).take(n).collect());
        let source_ids = ints(data_names::SOURCE_ID, 1)?.unwrap_or_else(|| ids.clone());
        let images = ints(data_names::SOURCE_IMAGE, 3)?.unwrap_or_else(|| vec![0; 3 * n]);
        let images = images.into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>();
        let images = images.map_err(|_| not_integers(data_names::SOURCE_IMAGE))?;
        // Data of the row in the order of the candidate's atoms; not used if the atoms differ.
        let in_order = |rows: Array2<f64>| rows.select(Axis(0), &order);
        let masses = self.masses.as_deref().filter(|_| mismatch.is_none()).map(|bytes| {
            let masses = exactly("masses", bytes, in_row)?;
            Ok::<_, String>(order.iter().map(|&at| masses[at]).collect::<Vec<f64>>())
        });
        let momenta = vectors("momenta", self.momenta.as_deref(), in_row)?;
        let velocities = match momenta.filter(|_| mismatch.is_none()).map(in_order) {
            Some(mut momenta) => {
                let masses = masses.clone().transpose()?;
                for (i, mut row) in momenta.rows_mut().into_iter().enumerate() {
                    let mass = masses.as_ref().map_or_else(|| standard_mass(structure.element(i)), |masses| masses[i]);
                    row.mapv_inplace(|p| if mass > 0.0 { p / mass * picosecond() } else { 0.0 });
                }
                Some(momenta)
            }
            None => None,
        };
        let forces = vectors("forces", self.forces.as_deref(), in_row)?;
        let labels = match (self.energy, forces.filter(|_| mismatch.is_none()).map(in_order)) {
            (Some(energy), Some(forces)) => Some(Labels {
                energy,
                free_energy: self.free_energy,
                forces,
                stress: match &self.stress {
                    Some(bytes) => {
                        let s = exactly("stress", bytes, 6)?;
                        Some([s[0], s[1], s[2], s[3], s[4], s[5]])
                    }
                    None => None,
                },
                calculator: self.calculator.clone(),
            }),
            _ => None,
        };
        // Rows of old versions can have invalid masses, which are an error only with momenta.
        let masses = masses
            .and_then(Result::ok)
            .and_then(|masses| type_masses(&masses, &structure.types.to_vec(), &structure.elements));
        let mut candidate = Candidate {
            structure: Structure { ids: Array1::from(ids), masses, velocities, ..structure },
            force_mask: numbers_of(data_names::FORCE_MASK)?.unwrap_or_else(|| vec![1.0; n]),
            source_ids,
            source_images: images.as_chunks::<3>().0.to_vec(),
            atom_gamma: numbers_of(data_names::ATOM_GAMMA)?,
            atom_core_share: numbers_of(data_names::ATOM_CORE_SHARE)?,
            keys: CandidateKeys::from_pairs(&pairs),
            labels,
        };
        if entry(&data, data_names::STORED_ATOMS).is_none() {
            mismatch = check_without_copy(&candidate, &data).err();
            candidate.labels = candidate.labels.filter(|_| mismatch.is_none());
        }
        let force_errors = (numbers_of(data_names::FORCE_ERROR)?, numbers_of(data_names::FORCE_ERROR_NEWEST)?);
        let row_order = order.iter().enumerate().any(|(i, &at)| i != at).then_some(order);
        Ok(ParsedRow { candidate, force_errors, pairs, data, mismatch, row_order })
    }

    /// The atoms in ASE's columns.
    fn own_atoms(&self) -> Result<Atoms, String> {
        let numbers: Vec<i32> = from_bytes(self.numbers.as_deref().unwrap_or_default(), i32::from_le_bytes).collect();
        let positions = vectors("positions", self.positions.as_deref(), numbers.len())?.ok_or("it has no positions")?;
        let mut cell = [[0.0; 3]; 3];
        if let Some(bytes) = &self.cell {
            let values = exactly("cell", bytes, 9)?;
            cell = [0, 1, 2].map(|row| [0, 1, 2].map(|column| values[3 * row + column]));
        }
        Ok(Atoms { numbers, positions, cell, pbc: [1, 2, 4].map(|bit| self.pbc.unwrap_or(0) & bit != 0) })
    }
}

/// An entry of `row.data` that is not null.
fn entry<'d>(data: &'d BTreeMap<String, Data>, name: &str) -> Option<&'d Data> {
    data.get(name).filter(|value| !matches!(value, Data::Null))
}

/// Atoms as in ASE: relative to the origin of the cell, without types and ids.
struct Atoms {
    numbers: Vec<i32>,
    positions: Array2<f64>,
    cell: [Vec3; 3],
    pbc: [bool; 3],
}

impl Atoms {
    /// The atoms of the entry [`data_names::STORED_ATOMS`]; `None` if it is malformed.
    fn stored(entry: &Data) -> Option<Self> {
        let Data::Map(entry) = entry else { return None };
        let numbers = entry.get("numbers")?.to_i32()?;
        let positions = Array2::from_shape_vec((numbers.len(), 3), entry.get("positions")?.to_f64()?).ok()?;
        let cell = entry.get("cell")?.to_f64()?;
        let (cell, []) = cell.as_chunks::<3>() else { return None };
        // ASE can convert the list to an array.
        let pbc = entry.get("pbc")?.to_f64()?;
        let &[a, b, c] = &pbc[..] else { return None };
        Some(Self { numbers, positions, cell: cell.try_into().ok()?, pbc: [a, b, c].map(|flag| flag != 0.0) })
    }

    /// The structure with the types and the origin in `data`.
    fn structure(self, data: &BTreeMap<String, Data>) -> Result<Structure, String> {
        let (elements, types) = types(&self.numbers, data)?;
        let mut cell = Cell { origin: [0.0; 3], vectors: self.cell, pbc: self.pbc };
        if let Some(origin) = entry(data, data_names::ORIGIN) {
            let origin = origin.to_f64().filter(|o| o.len() == 3).ok_or("its origin is not three numbers")?;
            cell.origin = [origin[0], origin[1], origin[2]];
        }
        let mut positions = self.positions;
        for mut row in positions.rows_mut() {
            for k in 0..3 {
                row[k] += cell.origin[k];
            }
        }
        let ids = (1..).take(types.len()).collect();
        Ok(Structure {
            cell,
            masses: None,
            elements,
            types: Array1::from(types),
            ids,
            fixed: Vec::new(),
            positions,
            velocities: None,
        })
    }
}

/// Checks a row without a copy of its atoms, from an older version: the elements in their order, and the radius of the
/// core.
///
/// # Errors
/// A message with the difference.
fn check_without_copy(candidate: &Candidate, data: &BTreeMap<String, Data>) -> Result<(), String> {
    let structure = &candidate.structure;
    if let (Some(types), Some(Data::List(symbols))) =
        (entry(data, data_names::ATOM_TYPE).and_then(Data::to_i32), entry(data, data_names::TYPE_SYMBOLS))
    {
        let symbol = |index: usize| match symbols.get(usize::try_from(*types.get(index)?).ok()?.checked_sub(1)?)? {
            Data::Text(symbol) => Some(symbol.as_str()),
            _ => None,
        };
        for index in 0..structure.len() {
            let found = structure.element(index).symbol();
            if let Some(stored) = symbol(index).filter(|stored| *stored != found) {
                return Err(format!("atom {index} (from 0) is {found}, but was stored as {stored}"));
            }
        }
    }
    identity::check_core(candidate)
}

/// The table of elements and the types: the stored ones if they agree with the atomic numbers (ASE can replace the atoms),
/// otherwise numbered in the order of first occurrence.
fn types(numbers: &[i32], data: &BTreeMap<String, Data>) -> Result<(Vec<Element>, Vec<i32>), String> {
    let number_of = |element: Element| i64::from(element.atomic_number());
    let stored = || -> Option<(Vec<Element>, Vec<i32>)> {
        let Data::List(symbols) = data.get(data_names::TYPE_SYMBOLS)? else { return None };
        let element = |symbol: &Data| match symbol {
            Data::Text(text) => Element::iter().find(|element| element.symbol() == text),
            _ => None,
        };
        let elements: Vec<Element> = symbols.iter().map(element).collect::<Option<_>>()?;
        let types = data.get(data_names::ATOM_TYPE)?.to_i32().filter(|types| types.len() == numbers.len())?;
        let agrees = |(&kind, &number): (&i32, &i32)| {
            let index = usize::try_from(kind).ok().and_then(|kind| kind.checked_sub(1));
            index.and_then(|i| elements.get(i)).is_some_and(|&e| number_of(e) == i64::from(number))
        };
        types.iter().zip(numbers).all(agrees).then_some((elements, types))
    };
    if let Some(found) = stored() {
        return Ok(found);
    }
    let mut elements = Vec::new();
    let mut types = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let element = Element::iter().find(|&element| number_of(element) == i64::from(number)).ok_or_else(|| {
            format!("it has an atom with the atomic number {number}, which is not that of an element")
        })?;
        let index = elements.iter().position(|&other| other == element).unwrap_or_else(|| {
            elements.push(element);
            elements.len() - 1
        });
        types.push(i32::try_from(index + 1).unwrap_or(i32::MAX));
    }
    Ok((elements, types))
}

/// The masses of the types from the masses of the atoms (u); `None` if they are the standard ones, or if atoms of one type
/// have different or invalid masses.
fn type_masses(masses: &[f64], types: &[i32], elements: &[Element]) -> Option<Vec<f64>> {
    let mut found: Vec<Option<f64>> = vec![None; elements.len()];
    for (&mass, &ty) in masses.iter().zip(types) {
        if *found[ty as usize - 1].get_or_insert(mass) != mass || !(mass > 0.0 && mass.is_finite()) {
            return None;
        }
    }
    let of_type = |(mass, element): (Option<f64>, &Element)| mass.unwrap_or_else(|| standard_mass(*element));
    nonstandard_masses(found.into_iter().zip(elements).map(of_type).collect(), elements)
}

/// `count` numbers.
fn exactly(name: &str, bytes: &[u8], count: usize) -> Result<Vec<f64>, String> {
    if bytes.len() != 8 * count {
        return Err(format!("its {name} has {} bytes instead of {}", bytes.len(), 8 * count));
    }
    Ok(from_bytes(bytes, f64::from_le_bytes).collect())
}

/// `n` vectors, shape (n, 3).
fn vectors(name: &str, bytes: Option<&[u8]>, n: usize) -> Result<Option<Array2<f64>>, String> {
    let Some(bytes) = bytes else { return Ok(None) };
    Array2::from_shape_vec((n, 3), exactly(name, bytes, 3 * n)?).map(Some).map_err(|e| e.to_string())
}

/// Checks a candidate before it is stored.
///
/// # Errors
/// [`StoreError::InvalidCandidate`] if the arrays are inconsistent or a number is not finite; [`StoreError::InvalidKey`] if
/// a key is not valid in ASE.
pub fn check(candidate: &Candidate) -> Result<(), StoreError> {
    let invalid = |reason: String| Err(StoreError::InvalidCandidate(reason));
    let structure = &candidate.structure;
    let n = structure.len();
    if n == 0 {
        return invalid("it has no atoms".into());
    }
    for (name, len) in [
        ("types", structure.types.len()),
        ("positions", structure.positions.nrows()),
        ("velocities", structure.velocities.as_ref().map_or(n, Array2::nrows)),
        ("force mask", candidate.force_mask.len()),
        ("source ids", candidate.source_ids.len()),
        ("source images", candidate.source_images.len()),
        ("atom gammas", candidate.atom_gamma.as_ref().map_or(n, Vec::len)),
        ("atom core shares", candidate.atom_core_share.as_ref().map_or(n, Vec::len)),
    ] {
        if len != n {
            return invalid(format!("it has {n} atoms, but {len} {name}"));
        }
    }
    if structure.positions.ncols() != 3 || structure.velocities.as_ref().is_some_and(|v| v.ncols() != 3) {
        return invalid("its positions or velocities do not have three components".into());
    }
    let is_defined = |&t: &i32| usize::try_from(t).is_ok_and(|t| (1..=structure.elements.len()).contains(&t));
    if let Some(index) = structure.types.iter().position(|t| !is_defined(t)) {
        return invalid(format!(
            "atom {} has type {}, which has no element",
            structure.ids[index], structure.types[index]
        ));
    }
    if let Some((index, _)) =
        structure.positions.outer_iter().enumerate().find(|(_, r)| !r.iter().all(|x| x.is_finite()))
    {
        return invalid(format!("the position of atom {} is not finite", structure.ids[index]));
    }
    let cell = &structure.cell;
    if !cell.vectors.as_flattened().iter().chain(&cell.origin).all(|x| x.is_finite()) {
        return invalid("its cell is not finite".into());
    }
    if structure.velocities.as_ref().is_some_and(|v| !v.iter().all(|x| x.is_finite())) {
        return invalid("a velocity is not finite".into());
    }
    if let Some(weight) = candidate.force_mask.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return invalid(format!("its force mask has the value {weight}, but must be finite and not negative"));
    }
    if candidate.keys.center.is_some_and(|center| center >= n) {
        return invalid(format!("its centre is atom {:?} (from 0), but it has {n} atoms", candidate.keys.center));
    }
    if let Some(labels) = &candidate.labels {
        labels.check(n).or_else(invalid)?;
    }
    candidate.keys.to_pairs().iter().try_for_each(|(key, value)| keys::check(key, value))
}
