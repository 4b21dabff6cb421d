//! The few functions of numpy and torch that the reference builds its tables with, rounding where they round: one unit in the last
//! place of a table of f32 is a different `1 − ᾱ` at small timesteps. Apart from the tables because each of them uses several.

/// `numpy.linspace(start, end, count)` in f64.
pub(super) fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    let gaps = count.saturating_sub(1).max(1) as f64;
    let step = (end - start) / gaps;
    let last = |i: usize| count > 1 && i + 1 == count;
    (0..count)
        .map(|i| {
            if last(i) {
                end
            } else {
                i as f64 * step + start
            }
        })
        .collect()
}

/// `torch.linspace(start, end, count)` in f32: from both ends to the middle, with fused multiply-adds (seen on x86 with AVX2).
pub(super) fn linspace_f32(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count.saturating_sub(1).max(1) as f32);
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((count - 1 - i) as f32, end)
            }
        })
        .collect()
}

/// `torch.cumprod` of f32 on the CPU, which multiplies in f64.
pub(super) fn cumulative_product(values: &[f32]) -> Vec<f32> {
    let times = |product: &mut f64, value: &f32| {
        *product *= f64::from(*value);
        Some(*product as f32)
    };
    values.iter().scan(1.0f64, times).collect()
}

/// `numpy.interp(x, arange(len(table)), table)`, in f64.
pub(super) fn interpolate(x: f64, table: &[f32]) -> f64 {
    let value = |i: usize| f64::from(at(table, i));
    let last = table.len().saturating_sub(1);
    if x <= 0.0 {
        return value(0);
    }
    if x >= last as f64 {
        return value(last);
    }
    let below = x.floor();
    let i = below as usize;
    (value(i + 1) - value(i)) * (x - below) + value(i)
}

/// `numpy.arange(from, 0, -gap)`, of at most `most` numbers. numpy's own count goes by a division that rounds up, and gives one number
/// too many (a timestep of −1) at 61 steps of 1000 and some others; that one is left out here.
pub(super) fn count_down(from: f64, gap: f64, most: usize) -> Vec<f64> {
    let count = ((from / gap).ceil().max(0.0) as usize).min(most);
    let step = (from - gap) - from;
    (0..count).map(|i| from + i as f64 * step).collect()
}

/// The number at an index, and zero past the end: there is no noise after the last step.
pub(super) fn at(values: &[f32], index: usize) -> f32 {
    values.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_met_and_one_point_is_the_start() {
        assert_eq!(linspace(0.0, 999.0, 1), [0.0]);
        assert_eq!(linspace(0.0, 9.0, 4), [0.0, 3.0, 6.0, 9.0]);
        assert_eq!(linspace_f32(2.0, 3.0, 1), [2.0]);
        let three = linspace_f32(0.25, 0.75, 3);
        assert_eq!(three, [0.25, 0.5, 0.75]);
    }

    #[test]
    fn counting_down_never_leaves_the_range() {
        for steps in 1..=1000usize {
            let down = count_down(1000.0, 1000.0 / steps as f64, steps);
            assert_eq!(down.len(), steps);
            assert!(
                down.iter().all(|t| t.round() >= 1.0 || steps == 1000),
                "{steps}"
            );
        }
    }

    #[test]
    fn between_two_entries_lies_their_mean() {
        assert_eq!(interpolate(0.5, &[1.0, 3.0]), 2.0);
        assert_eq!(interpolate(7.0, &[1.0, 3.0]), 3.0);
        assert_eq!(interpolate(-1.0, &[1.0, 3.0]), 1.0);
    }
}
