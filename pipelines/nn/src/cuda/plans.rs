//! What is found out once for each shape of a convolution: the shape as cuDNN is told of it, the ways of computing it in the order in
//! which they are tried, and a place for so many of them. Apart from `convolution`, which asks cuDNN, because nothing here needs it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use candle_core::DType;

use super::Convolution;

/// A workspace up to this size is kept between convolutions. A larger one is a convolution's over a large picture, whose next layers
/// need the memory as much: it comes from the device's pool and goes back there.
const KEPT: usize = 256 << 20;
/// The least that is kept, so that it does not grow in many small steps.
const LEAST: usize = 1 << 20;

/// All that the choice of an algorithm depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Of input, weight and output.
    pub dtype: DType,
    /// Whether products of f32 are those of f32, and not of TF32.
    pub exact: bool,
    /// [batch, channels, height, width]
    pub x: [i32; 4],
    /// [outputs, channels / groups, height, width]
    pub weight: [i32; 4],
    /// [batch, outputs, rows of windows, columns of windows]
    pub out: [i32; 4],
    pub stride: [i32; 2],
    pub padding: [i32; 2],
    pub groups: i32,
}

impl Shape {
    /// None for what cuDNN is not asked for: other dtypes, tensors of more numbers than 31 bits count or of none, and what is no
    /// convolution.
    pub(super) fn of(
        (dtype, exact): (DType, bool),
        (x, weight): (&[usize], &[usize]),
        convolution: &Convolution,
    ) -> Option<Self> {
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) {
            return None;
        }
        let Convolution {
            stride,
            padding,
            groups,
        } = *convolution;
        let ([batch, channels, height, width], [outputs, part, rows, columns]) = (x, weight) else {
            return None;
        };
        let windows = |size: usize, kernel: usize, at: usize| {
            let rest = (size + 2 * padding[at]).checked_sub(kernel)?;
            Some(rest.checked_div(stride[at])? + 1)
        };
        let whole = part.checked_mul(groups)? == *channels && outputs.is_multiple_of(groups);
        let out = [
            *batch,
            *outputs,
            windows(*height, *rows, 0)?,
            windows(*width, *columns, 1)?,
        ];
        if !whole {
            return None;
        }
        Some(Self {
            dtype,
            exact,
            x: counted([*batch, *channels, *height, *width])?,
            weight: counted([*outputs, *part, *rows, *columns])?,
            out: counted(out)?,
            stride: small(stride)?,
            padding: small(padding)?,
            groups: i32::try_from(groups).ok()?,
        })
    }

    /// Numbers of the output.
    pub(super) fn count(&self) -> usize {
        self.dims().iter().product()
    }

    /// The output's, as tensors have them.
    pub(super) fn dims(&self) -> [usize; 4] {
        self.out.map(|size| size.unsigned_abs() as usize)
    }
}

fn small<const N: usize>(sizes: [usize; N]) -> Option<[i32; N]> {
    let mut out = [0; N];
    for (to, size) in out.iter_mut().zip(sizes) {
        *to = i32::try_from(size).ok()?;
    }
    Some(out)
}

/// Dimensions whose product is a number of 31 bits too, and not 0.
fn counted(dims: [usize; 4]) -> Option<[i32; 4]> {
    let count = dims
        .iter()
        .try_fold(1usize, |count, dim| count.checked_mul(*dim))?;
    i32::try_from(count).ok().filter(|count| *count > 0)?;
    small(dims)
}

/// Bytes that the kept workspace has where so many are needed; none where they are for one convolution alone.
pub(super) fn kept(bytes: usize) -> Option<usize> {
    (bytes <= KEPT).then(|| bytes.next_power_of_two().max(LEAST))
}

/// A way of computing, and the bytes of workspace that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way<H> {
    pub how: H,
    pub bytes: usize,
}

/// What came of trying a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Done,
    /// The memory is not there now.
    NoRoom,
    /// It does not go this way, now or later.
    Refused,
}

/// Tries ways, the one thought fastest first, until one is done; where there was no room for one, those that need less. The refused are
/// forgotten. [`Tried::NoRoom`] is the answer where at least one way wanted no more than memory.
pub(super) fn try_ways<H: Copy, E>(
    ways: &mut Vec<Way<H>>,
    mut attempt: impl FnMut(Way<H>) -> Result<Tried, E>,
) -> Result<Tried, E> {
    let mut lacking = None;
    let mut at = 0;
    while let Some(way) = ways.get(at).copied() {
        at += 1;
        if lacking.is_some_and(|lacking| way.bytes >= lacking) {
            continue;
        }
        match attempt(way)? {
            Tried::Done => return Ok(Tried::Done),
            Tried::NoRoom => lacking = Some(way.bytes),
            Tried::Refused => {
                at -= 1;
                ways.remove(at);
            }
        }
    }
    Ok(match lacking {
        Some(_) => Tried::NoRoom,
        None => Tried::Refused,
    })
}

/// So many values by their keys: the one that was not asked for longest makes room for a new one.
pub(super) struct Recent<K, V> {
    most: usize,
    asked: u64,
    values: HashMap<K, (u64, V)>,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            asked: 0,
            values: HashMap::new(),
        }
    }

    /// The value of `key`, made where there is none.
    pub(super) fn get_or_make<E>(
        &mut self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<&mut V, E> {
        self.asked += 1;
        if !self.values.contains_key(&key) && self.values.len() >= self.most {
            let oldest = self.values.iter().min_by_key(|(_, (asked, _))| *asked);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.values.remove(&oldest);
            }
        }
        let (asked, value) = match self.values.entry(key) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(empty) => empty.insert((0, make()?)),
        };
        *asked = self.asked;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(x: [usize; 4], weight: [usize; 4], convolution: Convolution) -> Option<Shape> {
        Shape::of((DType::F32, true), (&x, &weight), &convolution)
    }

    fn over(stride: [usize; 2], padding: [usize; 2], groups: usize) -> Convolution {
        Convolution {
            stride,
            padding,
            groups,
        }
    }

    #[test]
    fn the_output_is_as_large_as_candles() {
        use candle_core::{Device, Tensor};
        for (x, weight, stride, padding) in [
            ([2, 3, 9, 11], [5, 3, 3, 3], 1, 1),
            ([1, 3, 17, 34], [4, 3, 3, 3], 2, 1),
            ([1, 2, 20, 24], [1, 2, 4, 4], 4, 0),
            ([1, 2, 4, 2], [1, 2, 2, 4], 3, 2),
        ] {
            let zeros = |dims: [usize; 4]| Tensor::zeros(&dims, DType::F32, &Device::Cpu).unwrap();
            let made = zeros(x).conv2d(&zeros(weight), padding, stride, 1, 1);
            let shape = shape(x, weight, over([stride; 2], [padding; 2], 1)).unwrap();
            assert_eq!(shape.dims(), made.as_ref().unwrap().dims());
            assert_eq!(shape.count(), made.unwrap().elem_count());
        }
        // Height and width apart, as a convolution over time has them; and 4 groups of 3 channels.
        let one = shape([2, 12, 1, 31], [8, 3, 1, 16], over([1, 2], [0, 8], 4)).unwrap();
        assert_eq!(one.out, [2, 8, 1, 16]);
        assert_eq!((one.stride, one.padding, one.groups), ([1, 2], [0, 8], 4));
    }

    #[test]
    fn what_cudnn_is_not_asked_for_has_no_shape() {
        let (x, weight, plain) = ([1, 4, 5, 5], [6, 4, 3, 3], over([1; 2], [0; 2], 1));
        assert!(shape(x, weight, plain).is_some());
        for (why, x, weight, convolution) in [
            ("other channels", [1, 3, 5, 5], weight, plain),
            ("no batch", [0, 4, 5, 5], weight, plain),
            ("smaller than the kernel", [1, 4, 2, 5], weight, plain),
            ("stands still", x, weight, over([0, 1], [0; 2], 1)),
            ("no groups", x, weight, over([1; 2], [0; 2], 0)),
            (
                "groups that do not divide",
                [1, 16, 5, 5],
                weight,
                over([1; 2], [0; 2], 4),
            ),
            ("2³¹ numbers", [1 << 11, 4, 1 << 9, 1 << 9], weight, plain),
        ] {
            assert_eq!(shape(x, weight, convolution), None, "{why}");
        }
        let f64 = Shape::of((DType::F64, true), (&x, &weight), &plain);
        assert_eq!(f64, None);
        let three = Shape::of((DType::F32, true), (&x[1..], &weight), &plain);
        assert_eq!(three, None);
    }

    #[test]
    fn what_an_algorithm_depends_on_tells_shapes_apart() {
        let (x, weight, plain) = ([1, 4, 5, 5], [6, 4, 3, 3], over([1; 2], [0; 2], 1));
        let of = |dtype, exact| Shape::of((dtype, exact), (&x, &weight), &plain).unwrap();
        let all = [
            of(DType::F32, true),
            of(DType::F32, false),
            of(DType::F16, true),
            of(DType::BF16, true),
            shape(x, weight, over([2; 2], [0; 2], 1)).unwrap(),
            shape(x, weight, over([1; 2], [1; 2], 1)).unwrap(),
            shape([2, 4, 5, 5], weight, plain).unwrap(),
        ];
        let apart: std::collections::HashSet<Shape> = all.into_iter().collect();
        assert_eq!(apart.len(), all.len());
    }

    fn ways(bytes: &[usize]) -> Vec<Way<usize>> {
        let way = |(how, bytes): (usize, &usize)| Way { how, bytes: *bytes };
        bytes.iter().enumerate().map(way).collect()
    }

    /// Which were tried, with `answers` for them, and what came of it.
    fn tries(ways: &mut Vec<Way<usize>>, answers: &[Tried]) -> (Vec<usize>, Tried) {
        let mut tried = vec![];
        let end = try_ways(ways, |way| {
            tried.push(way.how);
            Ok::<_, ()>(answers[way.how])
        });
        (tried, end.unwrap())
    }

    #[test]
    fn ways_are_tried_in_their_order_and_those_refused_once() {
        use Tried::{Done, NoRoom, Refused};
        let mut all = ways(&[5, 9, 0]);
        assert_eq!(tries(&mut all, &[Refused, Done, Done]), (vec![0, 1], Done));
        assert_eq!(tries(&mut all, &[Done, Done, Done]), (vec![1], Done));
        assert_eq!(
            tries(&mut all, &[Done, Refused, Refused]),
            (vec![1, 2], Refused)
        );
        assert_eq!(tries(&mut all, &[NoRoom; 3]), (vec![], Refused));
    }

    #[test]
    fn without_room_those_that_need_less_are_tried_this_once() {
        use Tried::{Done, NoRoom, Refused};
        let mut all = ways(&[9, 12, 9, 5, 0]);
        let short = [NoRoom, Done, Done, NoRoom, Done];
        assert_eq!(tries(&mut all, &short), (vec![0, 3, 4], Done));
        assert_eq!(tries(&mut all, &[Done; 5]), (vec![0], Done));
        let nothing = [NoRoom, Done, Done, Refused, NoRoom];
        assert_eq!(tries(&mut all, &nothing), (vec![0, 3, 4], NoRoom));
        assert_eq!(all.len(), 4);
        let failed = try_ways(&mut all, |_| Err::<Tried, _>("lost"));
        assert_eq!(failed, Err("lost"));
    }

    #[test]
    fn a_kept_workspace_grows_in_few_steps_and_not_without_end() {
        assert_eq!(kept(1), Some(LEAST));
        assert_eq!(kept(LEAST + 1), Some(2 * LEAST));
        assert_eq!(kept(KEPT), Some(KEPT));
        assert_eq!(kept(KEPT + 1), None);
    }

    #[test]
    fn the_one_not_asked_for_longest_makes_room() {
        let mut made = vec![];
        let mut recent = Recent::new(2);
        for key in [1, 2, 1, 3, 1, 2] {
            let value = recent.get_or_make(key, || {
                made.push(key);
                Ok::<_, ()>(10 * key)
            });
            assert_eq!(value, Ok(&mut (10 * key)));
        }
        assert_eq!(made, [1, 2, 3, 2]);
        assert_eq!(recent.get_or_make(4, || Err("no")), Err("no"));
        let again = recent.get_or_make(4, || Ok::<_, ()>(5));
        assert_eq!(again, Ok(&mut 5), "a failure is not kept");
    }
}
