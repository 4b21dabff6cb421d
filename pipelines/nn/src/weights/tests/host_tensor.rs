//! What a host tensor holds, shares and converts; conversions against candle's own.

use half::{bf16, f16};

use super::*;
use crate::error::NnError;

/// Every kind of number: zeros, subnormals, halves between two neighbours, overflow, infinities.
fn awkward() -> Vec<f32> {
    let mut numbers = vec![
        0.,
        -0.,
        1.,
        -1.,
        65504.,
        65520.,
        1e30,
        -1e30,
        1e-7,
        6e-8,
        1e-40,
        f32::MAX,
    ];
    numbers.extend([
        f32::INFINITY,
        f32::NEG_INFINITY,
        1. + 1. / 256.,
        1. + 3. / 256.,
        1. + 1. / 2048.,
    ]);
    // Over several blocks and pieces, with an odd rest.
    numbers.extend((0..200_003).map(|i| ((i * 7919) % 100_003) as f32 * 1e-3 - 50.));
    numbers
}

fn host(numbers: &[f32]) -> HostTensor {
    let bytes = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    HostTensor::from_bytes("t", DType::F32, vec![numbers.len()], bytes).unwrap()
}

#[test]
fn bytes_must_be_as_many_as_the_shape_needs() {
    let error = HostTensor::from_bytes("t", DType::F32, vec![2, 3], vec![0; 20]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `t` of f32 [2, 3] does not fit its 20 bytes"
    );
    assert!(HostTensor::from_bytes("t", DType::F32, vec![1 << 40, 1 << 40], vec![]).is_err());
    assert!(HostTensor::from_bytes("t", DType::F4, vec![2], vec![0]).is_err());
    let scalar = HostTensor::from_bytes("t", DType::F16, vec![], vec![0, 0]).unwrap();
    assert_eq!((scalar.elements(), scalar.shape()), (1, &[][..]));
}

#[test]
fn conversions_are_candles() {
    let numbers = awkward();
    let (stored, reference) = (host(&numbers), tensor(&numbers, &[numbers.len()]));
    let floats = [DType::F32, DType::F16, DType::BF16];
    for from in floats {
        let stored = stored.to_dtype(from).unwrap();
        let reference = reference.to_dtype(from).unwrap();
        for to in floats {
            let expected = reference
                .to_dtype(to)
                .unwrap()
                .to_dtype(DType::F32)
                .unwrap();
            let expected: Vec<u32> = expected
                .to_vec1::<f32>()
                .unwrap()
                .into_iter()
                .map(f32::to_bits)
                .collect();
            let copied = stored.to_dtype(to).unwrap();
            assert_eq!((copied.dtype(), copied.shape()), (to, stored.shape()));
            let bits =
                |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert!(
                bits(copied.to_f32().unwrap()) == expected,
                "{from:?} to {to:?}"
            );
            let moved = stored.to_tensor(&Device::Cpu, to).unwrap();
            assert_eq!((moved.dtype(), moved.dims()), (to, stored.shape()));
            let moved = moved
                .to_dtype(DType::F32)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            assert!(bits(moved) == expected, "{from:?} to a tensor of {to:?}");
        }
    }
}

#[test]
fn not_a_number_stays_one() {
    let nan = host(&[f32::NAN, 1.]);
    for dtype in [DType::F16, DType::BF16] {
        let back = nan.to_dtype(dtype).unwrap().to_f32().unwrap();
        assert!(back[0].is_nan() && back[1] == 1.);
    }
}

#[test]
fn the_same_dtype_is_the_same_bytes() {
    let stored = host(&[1., 2.]);
    let same = stored.to_dtype(DType::F32).unwrap();
    assert_eq!(stored.bytes().as_ptr(), same.bytes().as_ptr());
}

#[test]
fn unaligned_bytes_convert_and_load() {
    // A header of odd length puts the data at an odd address in two of two tries.
    for pad in ["", " "] {
        let header = format!(r#"{{"a":{{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}}}{pad}"#);
        let mut file = file_of(&header, 0);
        file.extend(
            [1f32, 2., -3.]
                .iter()
                .flat_map(|number| bf16::from_f32(*number).to_le_bytes()),
        );
        let a = StaticSource::new("demo", file.leak())
            .unwrap()
            .tensor("a")
            .unwrap();
        assert_eq!(a.to_f32().unwrap(), [1., 2., -3.]);
        let loaded = a.to_tensor(&Device::Cpu, DType::BF16).unwrap();
        assert_eq!(loaded.to_vec1::<bf16>().unwrap()[2].to_f32(), -3.);
        let narrow = a.to_tensor(&Device::Cpu, DType::F16).unwrap();
        assert_eq!(narrow.to_vec1::<f16>().unwrap()[1].to_f32(), 2.);
    }
}

#[test]
fn whole_numbers_load_as_they_are_and_do_not_convert() {
    let bytes = [1i64, -2]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let whole = HostTensor::from_bytes("ids", DType::I64, vec![2], bytes).unwrap();
    let loaded = whole.to_tensor(&Device::Cpu, DType::I64).unwrap();
    assert_eq!(loaded.to_vec1::<i64>().unwrap(), [1, -2]);
    for error in [
        whole.to_tensor(&Device::Cpu, DType::F32).unwrap_err(),
        whole.to_dtype(DType::F32).unwrap_err(),
        whole.to_f32().unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "tensor `ids` has dtype i64; f32, f16 and bf16 are read"
        );
    }
    assert!(host(&[1.]).to_dtype(DType::I64).is_err());
}

#[test]
fn rows_share_bytes() {
    let all = host(&(0..12).map(|number| number as f32).collect::<Vec<_>>());
    let all = HostTensor::from_bytes("t", DType::F32, vec![4, 3], all.bytes().to_vec()).unwrap();
    let two = all.rows(1, 2).unwrap();
    assert_eq!(two.shape(), [2, 3]);
    assert_eq!(f32s(&two), [3., 4., 5., 6., 7., 8.]);
    assert_eq!(two.bytes().as_ptr(), all.bytes()[12..].as_ptr());
    assert_eq!(f32s(&two.rows(1, 1).unwrap()), [6., 7., 8.]);
    assert_eq!(all.rows(0, 4).unwrap().bytes(), all.bytes());
    assert_eq!(all.rows(4, 0).unwrap().shape(), [0, 3]);
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let all = HostTensor::from_bytes("t", DType::U8, vec![4, 3], vec![0; 12]).unwrap();
    for (start, len) in [(3, 2), (5, 0), (0, 5), (usize::MAX, 2), (1, usize::MAX)] {
        let error = all.rows(start, len).unwrap_err();
        assert!(matches!(error, NnError::Rows { have: 4, .. }), "{error}");
    }
    let scalar = HostTensor::from_bytes("t", DType::U8, vec![], vec![0]).unwrap();
    assert!(scalar.rows(0, 0).is_err() && scalar.rows(0, 1).is_err());
    let none = HostTensor::from_bytes("t", DType::U8, vec![0, 3], vec![]).unwrap();
    assert_eq!(none.rows(0, 0).unwrap().shape(), [0, 3]);
}

#[test]
fn one_of_many_shares_bytes_and_loses_a_dimension() {
    let numbers: Vec<u8> = (0..12u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let all = HostTensor::from_bytes("t", DType::F32, vec![2, 2, 3], numbers).unwrap();
    let second = all.at(1).unwrap();
    assert_eq!(second.shape(), [2, 3]);
    assert_eq!(f32s(&second), [6., 7., 8., 9., 10., 11.]);
    assert_eq!(second.bytes().as_ptr(), all.bytes()[24..].as_ptr());
    assert!(matches!(all.at(2), Err(NnError::Rows { have: 2, .. })));
    assert!(second.at(0).unwrap().at(0).unwrap().shape().is_empty());
}

#[test]
fn a_transposed_matrix_has_its_columns_for_rows() {
    for dtype in [DType::F32, DType::BF16] {
        let numbers: Vec<u8> = (0..6u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
        let all = HostTensor::from_bytes("t", DType::F32, vec![2, 3], numbers).unwrap();
        let turned = all.to_dtype(dtype).unwrap().transposed().unwrap();
        assert_eq!((turned.shape(), turned.dtype()), (&[3, 2][..], dtype));
        assert_eq!(turned.to_f32().unwrap(), [0., 3., 1., 4., 2., 5.]);
    }
    assert!(host(&[1.]).transposed().is_err());
    let integers = HostTensor::from_bytes("t", DType::U8, vec![1, 1], vec![0]).unwrap();
    assert!(matches!(integers.transposed(), Err(NnError::DType { .. })));
}

#[test]
fn a_shape_other_than_expected_is_an_error_with_both() {
    let all = HostTensor::from_bytes("t", DType::U8, vec![4, 3], vec![0; 12]).unwrap();
    all.expect_shape(&[4, 3]).unwrap();
    assert_eq!(
        all.expect_shape(&[3, 4]).unwrap_err().to_string(),
        "tensor `t` has shape [4, 3], and config.json asks for [3, 4]"
    );
    assert_eq!(format!("{all:?}"), "HostTensor(t u8 [4, 3], owned)");
}
