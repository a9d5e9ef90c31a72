//! Writing a part's files and reading them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::{
    BatchedWriter, Column, DataFrame, ParquetCompression, ParquetReader, ParquetWriter,
    PolarsError, SerReader,
};

use polars::io::parquet::metadata::FileMetadataRef;

use crate::store::below;
use crate::store::error::StoreError;
use crate::store::part::Part;
use crate::store::table::{Kind, Table};

/// Rows that are written together: a reader skips them together, by their least and greatest values.
pub const ROWS_PER_GROUP: usize = 16_384;
/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A part that is being written; dropped before it is finished, its files are removed.
pub struct PartWriter<'s> {
    root: &'s Path,
    part: Part,
    files: BTreeMap<String, TableFile>,
}

/// A table's file that is being written.
struct TableFile {
    path: PathBuf,
    writer: BatchedWriter<Out>,
    out: Out,
}

/// A file that remembers why it could not be written: polars tells it in words of its own. It is shared
/// with [`TableFile`], because polars does not give it back.
#[derive(Clone)]
struct Out {
    file: Arc<Mutex<BufWriter<File>>>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Out {
    fn with<T>(&self, work: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
        let done = work(&mut self.file.lock().unwrap_or_else(PoisonError::into_inner));
        done.inspect_err(|error| {
            let again = error.raw_os_error().map(io::Error::from_raw_os_error);
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = again;
        })
    }

    /// Makes what was written lasting.
    fn sync(&self) -> io::Result<()> {
        self.with(|file| {
            file.flush()?;
            file.get_ref().sync_all()
        })
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(BufWriter::flush)
    }
}

impl TableFile {
    fn error(&self, error: PolarsError) -> StoreError {
        let failed = self.out.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let error = failed.unwrap_or_else(|| io::Error::other(error.to_string()));
        StoreError::Write { path: self.path.clone(), error }
    }
}

impl<'s> PartWriter<'s> {
    /// Begins a part.
    pub fn begin(root: &'s Path, part: Part) -> PartWriter<'s> {
        PartWriter { root, part, files: BTreeMap::new() }
    }

    /// Says of which application it is, where that was not known before.
    pub fn is_of(&mut self, application: Option<String>) {
        self.part.application = application;
    }

    /// Says that a node is in it.
    pub fn has_node(&mut self, node: Option<&str>) {
        let node = node.unwrap_or_default();
        let (first, last) = self.part.nodes.get_or_insert_with(|| (node.into(), node.into()));
        if node < first.as_str() {
            node.clone_into(first);
        }
        if node > last.as_str() {
            node.clone_into(last);
        }
    }

    /// Adds rows to a table.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, table: &str, frame: &mut DataFrame) -> Result<(), StoreError> {
        if frame.height() == 0 {
            return Ok(());
        }
        if !self.files.contains_key(table) {
            let path = self.part.staged(table);
            let file = below::create(self.root, &path)
                .map_err(|error| StoreError::Write { path: self.root.join(&path), error })?;
            let path = self.root.join(path);
            // Parts are made side by side: each by one thread.
            // polars writes page by page, some kilobytes each.
            let file = Arc::new(Mutex::new(BufWriter::with_capacity(BUFFER_BYTES, file)));
            let out = Out { file, failed: Arc::default() };
            let writer = ParquetWriter::new(out.clone())
                .with_compression(ParquetCompression::Zstd(None))
                .with_row_group_size(Some(ROWS_PER_GROUP))
                .set_parallel(false)
                .batched(frame.schema())?;
            self.files.insert(table.to_owned(), TableFile { path, writer, out });
        }
        let Some(file) = self.files.get_mut(table) else { return Ok(()) };
        frame.align_chunks_par();
        file.writer.write_batch(frame).map_err(|error| file.error(error))?;
        *self.part.rows.entry(table.to_owned()).or_default() += frame.height() as u64;
        Ok(())
    }

    /// Makes the files whole; `None` if there is no row.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn close(self) -> Result<Option<Part>, StoreError> {
        self.end(Out::flush)
    }

    /// Makes the files whole and lasting; `None` if there is no row.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish(self) -> Result<Option<Part>, StoreError> {
        self.end(|out| out.sync())
    }

    fn end(
        mut self,
        done: impl Fn(&mut Out) -> io::Result<()>,
    ) -> Result<Option<Part>, StoreError> {
        for file in self.files.values_mut() {
            self.part.bytes += file.writer.finish().map_err(|error| file.error(error))?;
            done(&mut file.out)
                .map_err(|error| StoreError::Write { path: file.path.clone(), error })?;
        }
        self.files.clear();
        Ok((!self.part.rows.is_empty()).then(|| self.part.clone()))
    }
}

impl Drop for PartWriter<'_> {
    fn drop(&mut self) {
        for file in self.files.values() {
            // Whatever hinders it, the next writer removes them.
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

/// A table of a part that is read, some rows at a time, in their order.
pub struct PartReader {
    place: PathBuf,
    file: File,
    metadata: FileMetadataRef,
    columns: Option<Vec<String>>,
    /// Columns of the table that the file lacks, as it was written before there were any: their values are unknown.
    missing: Vec<(String, Kind)>,
    /// All columns in the table's order.
    order: Vec<String>,
    /// The table; none if its columns are not declared.
    table: Option<Table>,
    at: usize,
    rows: usize,
}

impl PartReader {
    /// Opens it; `None` if the part has no row of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(
        root: &Path,
        part: &Part,
        table: &str,
        columns: Option<&[&str]>,
    ) -> Result<Option<PartReader>, StoreError> {
        let Some(&rows) = part.rows.get(table) else { return Ok(None) };
        let place = part.path(root, table);
        let settled = || below::open(root, &part.place(table));
        let file = match settled() {
            // It was committed a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                below::open(root, &part.staged(table)).or_else(|_| settled())
            }
            other => other,
        };
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Damaged(place.clone()),
            _ => StoreError::Read { path: place.clone(), error },
        })?;
        let again = file.try_clone();
        let again = again.map_err(|error| StoreError::Read { path: place.clone(), error })?;
        let metadata = ParquetReader::new(again)
            .get_metadata()
            .map_err(|_| StoreError::Damaged(place.clone()))?
            .clone();
        let fields = metadata.schema_descr.fields();
        let has = |name: &str| fields.iter().any(|field| field.name() == name);
        let wanted = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
        let of_table = Table::ALL.iter().find(|one| one.name() == table);
        let declared = of_table.map(|one| one.columns()).unwrap_or_default().iter();
        let all: Vec<_> = declared.filter(|(name, _)| wanted(name)).cloned().collect();
        let order = all.iter().map(|(name, _)| name.clone()).collect();
        let missing = all.into_iter().filter(|(name, _)| !has(name)).collect();
        let there = |names: &[&str]| {
            names.iter().filter(|name| has(name)).map(|&name| name.to_owned()).collect()
        };
        let columns = columns.map(there);
        let (at, rows) = (0, rows as usize);
        let table = of_table.copied();
        Ok(Some(PartReader { place, file, metadata, columns, missing, order, table, at, rows }))
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn next(&mut self, rows: usize) -> Result<Option<DataFrame>, StoreError> {
        if self.at >= self.rows {
            return Ok(None);
        }
        let again = self.file.try_clone();
        let again = again.map_err(|error| StoreError::Read { path: self.place.clone(), error })?;
        let mut reader = ParquetReader::new(again);
        reader.set_metadata(self.metadata.clone());
        let mut frame = reader
            .with_columns(self.columns.clone())
            .with_slice(Some((self.at, rows)))
            .finish()
            .map_err(|_| StoreError::Damaged(self.place.clone()))?;
        if frame.height() == 0 {
            return Err(StoreError::Damaged(self.place.clone()));
        }
        self.at += frame.height();
        if self.table.is_some_and(|table| !table.describes(&frame)) {
            return Err(StoreError::Damaged(self.place.clone()));
        }
        for (name, kind) in &self.missing {
            let (name, data) = (name.as_str().into(), kind.data_type());
            frame.with_column(Column::full_null(name, frame.height(), &data))?;
        }
        if !self.missing.is_empty() {
            frame = frame.select(self.order.iter().map(String::as_str))?;
        }
        Ok(Some(frame))
    }
}

/// Reads a table of a part, some rows at a time, in their order.
///
/// # Errors
/// When it cannot be read, or what `each` says.
pub fn scan(
    root: &Path,
    part: &Part,
    table: &str,
    columns: Option<&[&str]>,
    rows_at_once: usize,
    each: &mut dyn FnMut(DataFrame) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Some(mut reader) = PartReader::open(root, part, table, columns)? else { return Ok(()) };
    while let Some(frame) = reader.next(rows_at_once)? {
        each(frame)?;
    }
    Ok(())
}
