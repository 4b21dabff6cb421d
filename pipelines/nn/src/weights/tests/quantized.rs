//! Block formats: sizes, rows, and numbers against the `gguf` package's (`tests/fixtures/quants.py`).

use flate2::read::GzDecoder;

use super::*;
use crate::error::NnError;

/// The bytes of a kind and the numbers that they stand for.
fn fixture(kind: &str) -> (Vec<u8>, Vec<f32>) {
    let all: &[u8] = include_bytes!("../../../tests/fixtures/quants.json.gz");
    let all: serde_json::Value = serde_json::from_reader(GzDecoder::new(all)).unwrap();
    let bytes = |field: &str| -> Vec<u8> {
        let digits = all[kind][field].as_str().unwrap().as_bytes();
        let pairs = digits.as_chunks::<2>().0;
        let byte =
            |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(byte).collect()
    };
    let numbers = bytes("numbers");
    let numbers = numbers.as_chunks::<4>().0.iter();
    (
        bytes("bytes"),
        numbers.map(|number| f32::from_le_bytes(*number)).collect(),
    )
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn numbers_are_those_of_the_gguf_package_to_the_bit() {
    for kind in QuantType::ALL {
        let (bytes, numbers) = fixture(kind.name());
        assert_eq!(numbers.len(), 512);
        let whole = HostTensor::from_bytes("w", kind, vec![2, 256], bytes).unwrap();
        assert_eq!(whole.stored(), StoredType::Quant(kind));
        assert_eq!(whole.dtype(), DType::F32);
        assert_eq!(bits(&whole.to_f32().unwrap()), bits(&numbers), "{kind:?}");
        let wide = whole.to_dtype(DType::F32).unwrap();
        assert_eq!(bits(&f32s(&wide)), bits(&numbers), "{kind:?}");
        assert_eq!(wide.quantized(), None);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let moved = whole.to_tensor(&Device::Cpu, dtype).unwrap();
            let expected = tensor(&numbers, &[2, 256]).to_dtype(dtype).unwrap();
            let wide = |t: Tensor| t.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(wide(moved), wide(expected), "{kind:?} to {dtype:?}");
        }
    }
}

#[test]
fn rows_share_the_bytes() {
    for kind in QuantType::ALL {
        let (bytes, numbers) = fixture(kind.name());
        let whole = HostTensor::from_bytes("w", kind, vec![2, 1, 256], bytes).unwrap();
        let second = whole.rows(1, 1).unwrap();
        assert_eq!(second.shape(), [1, 1, 256]);
        assert_eq!(bits(&second.to_f32().unwrap()), bits(&numbers[256..]));
        let half = whole.bytes().len() / 2;
        assert_eq!(second.bytes().as_ptr(), whole.bytes()[half..].as_ptr());
        assert!(matches!(whole.rows(1, 2), Err(NnError::Rows { .. })));
    }
}

#[test]
fn sizes_are_ggmls() {
    for kind in QuantType::ALL {
        let candle = kind.candle();
        assert_eq!(kind.block_len(), candle.block_size());
        assert_eq!(kind.block_bytes(), candle.type_size());
        assert_eq!(QuantType::from_ggml_id(kind.ggml_id()), Some(kind));
    }
    // F32 and IQ2_XXS.
    assert_eq!(QuantType::from_ggml_id(0), None);
    assert_eq!(QuantType::from_ggml_id(16), None);
}

#[test]
fn rows_that_are_no_whole_blocks_are_an_error_with_the_length_that_would_do() {
    // As many bytes as two blocks have, but the rows end inside them.
    let error = HostTensor::from_bytes("w", QuantType::Q4K, vec![4, 128], vec![0; 288]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "tensor `w` of Q4_K has rows of 128 numbers; a multiple of 256 is wanted"
    );
    let error = HostTensor::from_bytes("w", QuantType::Q8_0, vec![], vec![0; 34]);
    assert!(matches!(error, Err(NnError::Blocks { .. })));
    let error = HostTensor::from_bytes("w", QuantType::Q8_0, vec![2, 32], vec![0; 64]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "tensor `w` of Q8_0 [2, 32] does not fit its 64 bytes"
    );
    let large = HostTensor::from_bytes("w", QuantType::Q8_0, vec![1 << 40, 1 << 40], vec![]);
    assert!(matches!(large, Err(NnError::TensorBytes { .. })));
    let numbers = HostTensor::from_bytes("w", DType::F32, vec![2, 48], vec![0; 384]).unwrap();
    let error = quantize_tensor(QuantType::Q8_0, &numbers).unwrap_err();
    assert!(matches!(error, NnError::Blocks { columns: 48, .. }));
    assert!(quantize(QuantType::Q4K, &[0.0; 32]).is_err());
}

#[test]
fn q8_0_is_made_as_ggml_makes_it() {
    let (bytes, numbers) = fixture("quantized");
    assert_eq!(quantize(QuantType::Q8_0, &numbers).unwrap(), bytes);
}

#[test]
fn quantised_numbers_are_near_the_original_and_the_same_in_pieces() {
    // More than a piece of work for a thread.
    let numbers: Vec<f32> = (0..(1 << 16) + 512)
        .map(|i: u32| ((i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.1)
        .collect();
    let shape = vec![2, numbers.len() / 2];
    let bytes = bytemuck::cast_slice(&numbers).to_vec();
    let tensor = HostTensor::from_bytes("w", DType::F32, shape.clone(), bytes).unwrap();
    for kind in QuantType::ALL {
        let made = quantize_tensor(kind, &tensor).unwrap();
        assert_eq!((made.name(), made.shape()), ("w", &shape[..]));
        // Half a step of a range of 0.2, and what scales of few bits add to it.
        let steps = match kind {
            QuantType::Q8_0 => 255.0,
            QuantType::Q6K => 63.0,
            QuantType::Q5_0 | QuantType::Q5_1 | QuantType::Q5K => 31.0,
            _ => 15.0,
        };
        for (a, b) in made.to_f32().unwrap().iter().zip(&numbers) {
            assert!((a - b).abs() < 0.2 / steps * 1.1, "{kind:?} {a} {b}");
        }
        let tail = quantize(kind, &numbers[1 << 16..]).unwrap();
        assert!(made.bytes().ends_with(&tail), "{kind:?}");
    }
}
