//! How often each opcode was retired in each shape.

use std::collections::BTreeMap;

use crate::opcodes::{Cell, SHAPES};

/// Counts of all cells.
pub struct Coverage {
    cells: Vec<Cell>,
    retired: Vec<u64>,
}

impl Coverage {
    /// Nothing retired yet.
    pub fn new(cells: &[Cell]) -> Coverage {
        Coverage { cells: cells.to_vec(), retired: vec![0; cells.len()] }
    }

    /// A cell was retired so many times.
    pub fn add(&mut self, cell: u32, times: u64) {
        self.retired[cell as usize] += times;
    }

    /// Cells retired less than `wanted` times.
    pub fn below(&self, wanted: u64) -> Vec<(Cell, u64)> {
        self.cells
            .iter()
            .zip(&self.retired)
            .filter(|&(_, &retired)| retired < wanted)
            .map(|(&cell, &retired)| (cell, retired))
            .collect()
    }

    /// One line per shape: opcodes, the least and the median number of times they were retired.
    pub fn summary(&self) -> String {
        let mut text = String::from(
            "| shape | opcodes | at least 100 times | least | median |\n|---|---|---|---|---|\n",
        );
        for shape in SHAPES {
            let mut of: Vec<u64> = self
                .cells
                .iter()
                .zip(&self.retired)
                .filter(|(cell, _)| cell.shape == shape)
                .map(|(_, &retired)| retired)
                .collect();
            of.sort_unstable();
            let often = of.iter().filter(|&&retired| retired >= 100).count();
            let (least, median) = (of.first().copied(), of.get(of.len() / 2).copied());
            text.push_str(&format!(
                "| {shape:?} | {} | {often} | {} | {} |\n",
                of.len(),
                least.unwrap_or(0),
                median.unwrap_or(0)
            ));
        }
        text
    }

    /// Every opcode with its count in each shape.
    pub fn table(&self) -> String {
        let mut rows: BTreeMap<String, [Option<u64>; 5]> = BTreeMap::new();
        for (cell, &retired) in self.cells.iter().zip(&self.retired) {
            let row = rows.entry(format!("{:?}", cell.code)).or_default();
            row[SHAPES.iter().position(|&s| s == cell.shape).expect("a shape")] = Some(retired);
        }
        let mut text = String::from("| opcode |");
        SHAPES.iter().for_each(|shape| text.push_str(&format!(" {shape:?} |")));
        text.push_str("\n|---|---|---|---|---|---|\n");
        for (opcode, row) in rows {
            text.push_str(&format!("| {opcode} |"));
            for cell in row {
                text.push_str(&cell.map_or(" - |".to_string(), |retired| format!(" {retired} |")));
            }
            text.push('\n');
        }
        text
    }
}
