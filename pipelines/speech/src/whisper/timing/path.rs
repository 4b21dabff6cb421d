//! The path of least cost through a matrix, by dynamic time warping. Mirrors openai-whisper timing.py (`dtw_cpu`, `backtrace`), sums
//! in f32 of numbers in f64 included.

/// How a cell was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Diagonal,
    Above,
    Left,
}

/// For each row of `cost` [rows, columns] the column at which the path of least cost comes to it. Of equally cheap ways the one
/// within a row is taken.
pub fn arrivals(cost: &[f32], rows: usize, columns: usize) -> Vec<usize> {
    if rows == 0 || columns == 0 {
        return vec![0; rows];
    }
    let trace = trace(cost, rows, columns);
    let mut found = vec![0; rows];
    let (mut row, mut column) = (rows, columns);
    // Cell (row, column) of the trace is number (row - 1, column - 1) of the matrix; the path is walked back from the last.
    while row > 0 && column > 0 {
        if let Some(found) = found.get_mut(row - 1) {
            // Overwritten while the path stays in the row, so that its first column is left.
            *found = column - 1;
        }
        match trace.get((row - 1) * columns + column - 1) {
            Some(From::Above) => row -= 1,
            Some(From::Left) => column -= 1,
            Some(From::Diagonal) | None => {
                row -= 1;
                column -= 1;
            }
        }
    }
    found
}

fn trace(cost: &[f32], rows: usize, columns: usize) -> Vec<From> {
    let mut trace = vec![From::Left; rows * columns];
    // A column of sums at a time, with the one before it; number 0 is the border above the matrix.
    let mut before = vec![f32::INFINITY; rows + 1];
    before[0] = 0.0;
    let mut sums = vec![f32::INFINITY; rows + 1];
    for column in 0..columns {
        sums[0] = f32::INFINITY;
        for row in 0..rows {
            let (diagonal, above, left) = (before[row], sums[row], before[row + 1]);
            let (least, from) = if diagonal < above && diagonal < left {
                (diagonal, From::Diagonal)
            } else if above < diagonal && above < left {
                (above, From::Above)
            } else {
                (left, From::Left)
            };
            let at = row * columns + column;
            sums[row + 1] = (f64::from(cost[at]) + f64::from(least)) as f32;
            trace[at] = from;
        }
        std::mem::swap(&mut before, &mut sums);
    }
    trace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_goes_where_it_is_cheap_and_visits_every_row() {
        // Rows are cheap at columns 0–1, 2, and 3–4.
        let cheap = [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4)];
        let mut cost = vec![1.0f32; 15];
        for (row, column) in cheap {
            cost[row * 5 + column] = 0.0;
        }
        assert_eq!(arrivals(&cost, 3, 5), [0, 2, 3]);
        // More rows than columns: several begin in one.
        assert_eq!(arrivals(&[0.0; 6], 6, 1), [0; 6]);
        assert_eq!(arrivals(&[], 2, 0), [0, 0]);
    }
}
