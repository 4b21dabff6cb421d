//! Parking on the CPU: what is behind tensors goes and comes, all of it or none.

use candle_core::{DType, Device, IndexOp};

use super::host::Copies;
use super::*;
use crate::conv2d::{Conv2d, Conv2dConfig};
use crate::embedding::Embedding;
use crate::group_norm::{GroupNorm, Groups};
use crate::kv_cache::{CacheShape, KvCache};
use crate::linear::Linear;
use crate::norm::{Norm, NormConfig, NormKind};
use crate::weights::HostTensor;

/// Numbers that differ from place to place.
fn host(roster: &Roster, shape: &[usize], salt: u32) -> HostTensor {
    let count = shape.iter().product::<usize>() as u32;
    let number = |at: u32| (((at * 37 + salt * 11) % 101) as f32 - 50.0) / 64.0;
    let bytes = (0..count).flat_map(|at| number(at).to_le_bytes()).collect();
    let tensor = HostTensor::from_bytes("w", DType::F32, shape.to_vec(), bytes).unwrap();
    tensor.with_roster(Some(roster.clone()))
}

fn linear(roster: &Roster) -> Linear {
    let (weight, bias) = (host(roster, &[6, 4], 1), host(roster, &[6], 2));
    Linear::plain(weight, Some(bias), &Device::Cpu, DType::F32).unwrap()
}

fn park(parking: &mut Parking) {
    while parking.park().unwrap() == Parked::Partly {}
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Numbers that are behind a tensor, whatever it says itself.
fn behind(tensor: &Tensor) -> usize {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(storage) => storage.as_slice::<f32>().unwrap().len(),
        _ => panic!("on the CPU"),
    }
}

#[test]
fn every_layer_lists_all_that_it_holds() {
    let cpu = Device::Cpu;
    let listed = |make: &dyn Fn(&Roster) -> usize| {
        let roster = Roster::new(&cpu);
        let held = make(&roster);
        assert!(held > 0);
        assert_eq!(roster.bytes(), held as u64);
    };
    listed(&|roster| linear(roster).bytes());
    listed(&|roster| {
        let half = host(roster, &[8, 4], 1).rows(2, 4).unwrap();
        let half = half.transposed().unwrap().to_dtype(DType::F16).unwrap();
        Linear::plain(half, None, &cpu, DType::BF16)
            .unwrap()
            .bytes()
    });
    listed(&|roster| {
        let table = Embedding::plain(host(roster, &[5, 4], 3), &cpu, DType::F16).unwrap();
        // The same storage, which is there once.
        assert_eq!(table.tied_head().unwrap().bytes(), table.bytes());
        table.bytes()
    });
    for kind in [NormKind::Layer, NormKind::RmsUnitOffset] {
        listed(&|roster| {
            let config = NormConfig { kind, eps: 1e-5 };
            let norm = Norm::plain(config, host(roster, &[4], 4), &cpu, DType::F16).unwrap();
            match kind {
                NormKind::Layer => norm.with_bias(host(roster, &[4], 5)).unwrap().bytes(),
                _ => norm.bytes(),
            }
        });
    }
    listed(&|roster| {
        let pair = (host(roster, &[4], 6), host(roster, &[4], 7));
        let groups = Groups {
            count: 2,
            eps: 1e-5,
        };
        GroupNorm::plain(pair, groups, &cpu, DType::F32)
            .unwrap()
            .bytes()
    });
    listed(&|roster| {
        let (weight, bias) = (host(roster, &[3, 2, 3, 3], 8), host(roster, &[3], 9));
        let config = Conv2dConfig::same(3);
        Conv2d::plain(weight, Some(bias), config, &cpu, DType::F32)
            .unwrap()
            .bytes()
    });
}

#[test]
fn what_is_elsewhere_or_no_float_is_not_listed() {
    let roster = Roster::new(&Device::Cpu);
    roster.list(&Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap());
    roster.list(&Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap());
    assert!(roster.tensors().is_empty());
    assert!(Roster::of_model(&Device::Cpu, false).is_none());
    assert!(Roster::of_model(&Device::Cpu, true).is_some());
}

#[test]
fn a_parked_layer_holds_nothing_and_answers_as_before_when_it_is_back() {
    let roster = Roster::new(&Device::Cpu);
    let layer = linear(&roster);
    let x = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
    let x = x.reshape((3, 4)).unwrap();
    let before = numbers(&layer.forward(&x).unwrap());
    let view = roster.tensors()[0].i(1).unwrap();
    let seen = numbers(&view);
    let mut parking = Parking::new(Some(roster.clone()));
    assert_eq!(parking.space(), Some(30 * 4));
    for _ in 0..3 {
        assert!(parking.check_awake().is_ok());
        park(&mut parking);
        assert!(parking.is_parked() && parking.check_awake().is_err());
        assert_eq!(parking.space(), Some(0));
        assert!(roster.tensors().iter().all(|tensor| behind(tensor) == 0));
        assert_eq!(behind(&view), 0);
        let held = Footprint {
            device_bytes: 0,
            host_bytes: 1000 + 30 * 4,
        };
        assert_eq!(parking.footprint(held).host_bytes, 1000 + 30 * 4);
        parking.wake().unwrap();
        assert_eq!(parking.footprint(held).host_bytes, 1000 + 2 * 30 * 4);
        assert_eq!(numbers(&layer.forward(&x).unwrap()), before);
        assert_eq!(numbers(&view), seen);
    }
}

#[test]
fn nothing_is_parked_where_nothing_is_listed() {
    let mut parking = Parking::new(None);
    assert_eq!(parking.space(), None);
    assert!(parking.park().is_err() && !parking.is_parked());
    parking.wake().unwrap();
}

#[test]
fn pieces_are_whole_tensors_and_never_none() {
    let of = |bytes: u64| Tensor::zeros((bytes / 4) as usize, DType::F32, &Device::Cpu).unwrap();
    let tensors = [of(PIECE / 2), of(PIECE / 2), of(4), of(PIECE + 4), of(4)];
    let mut rest: &[Tensor] = &tensors;
    let mut counts = Vec::new();
    while !rest.is_empty() {
        let piece = first(rest).len();
        counts.push(piece);
        rest = &rest[piece..];
    }
    assert_eq!(counts, [2, 1, 1, 1]);
    assert!(first(&[]).is_empty());
}

/// Fails once, at a call of that number.
struct Failing {
    copies: Copies,
    calls: usize,
    at: usize,
    said: &'static str,
}

impl Failing {
    fn call(&mut self) -> Candle<()> {
        self.calls += 1;
        match self.calls == self.at {
            true => candle_core::bail!("{}", self.said),
            false => Ok(()),
        }
    }
}

impl Memory for Failing {
    fn keep(&mut self, tensors: &[Tensor]) -> Result<()> {
        self.call()?;
        self.copies.keep(tensors)
    }

    fn stub(&mut self, number: usize) -> Candle<Storage> {
        self.call()?;
        self.copies.stub(number)
    }

    fn bring(&mut self, number: usize) -> Candle<Storage> {
        self.call()?;
        self.copies.bring(number)
    }

    fn finish(&mut self) -> Candle<()> {
        self.call()
    }

    fn discard(&mut self, stubs: Vec<Storage>) {
        self.copies.discard(stubs);
    }
}

/// Parks and wakes with a failure at each call in turn, which is met once and tried again.
fn at_every_call(said: &'static str, met: impl Fn(StepError)) -> usize {
    let mut failures = 0;
    for at in 1.. {
        let roster = Roster::new(&Device::Cpu);
        let layer = linear(&roster);
        let x = Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
        let before = numbers(&layer.forward(&x).unwrap());
        let failing = Failing {
            copies: Copies::default(),
            calls: 0,
            at,
            said,
        };
        let mut parking = Parking::with_memory(roster.clone(), Box::new(failing));
        let mut failed = 0;
        while !parking.is_parked() {
            if let Err(error) = parking.park() {
                failed += 1;
                met(error);
                // It serves as if nobody had tried.
                assert_eq!(numbers(&layer.forward(&x).unwrap()), before, "{at}");
            }
        }
        while parking.is_parked() {
            if let Err(error) = parking.wake() {
                failed += 1;
                met(error);
                assert!(parking.check_awake().is_err(), "{at}");
                assert!(roster.tensors().iter().all(|one| behind(one) == 0), "{at}");
            }
        }
        assert_eq!(numbers(&layer.forward(&x).unwrap()), before, "{at}");
        if failed == 0 {
            return failures;
        }
        failures += failed;
    }
    failures
}

#[test]
fn a_failure_leaves_all_of_a_model_where_it_was() {
    // A piece kept; two stubs; two brought and waited for.
    let failures = at_every_call("CUDA_ERROR_OUT_OF_MEMORY", |error| {
        assert!(matches!(error, StepError::OutOfMemory(_)), "{error}");
    });
    assert_eq!(failures, 6);
    at_every_call("CUDA_ERROR_ILLEGAL_ADDRESS", |error| {
        assert!(matches!(error, StepError::Fatal(_)), "{error}");
    });
}

#[test]
fn a_wake_whose_cache_finds_no_room_is_mended_by_the_next() {
    // The seventh call: a stub, when the weights are to leave again. So the model is here without its cache.
    for (at, stays) in [(usize::MAX, false), (7, true)] {
        let roster = Roster::new(&Device::Cpu);
        let layer = linear(&roster);
        let x = Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
        let before = numbers(&layer.forward(&x).unwrap());
        let failing = Failing {
            copies: Copies::default(),
            calls: 0,
            at,
            said: "CUDA_ERROR_OUT_OF_MEMORY",
        };
        let mut parking = Parking::with_memory(roster, Box::new(failing));
        park(&mut parking);
        let refused = parking.wake_with(|| Err(NnError::HostMemory { bytes: 1 }));
        assert!(matches!(refused, Err(StepError::OutOfMemory(_))));
        assert_eq!(parking.is_parked(), !stays);
        let mut taken = false;
        let woken = parking.wake_with(|| {
            taken = true;
            Ok(())
        });
        woken.unwrap();
        assert!(taken);
        assert_eq!(numbers(&layer.forward(&x).unwrap()), before);
    }
}

#[test]
fn an_exchange_gives_back_what_was_there() {
    let tensors: Vec<Tensor> = (0..2)
        .map(|n| Tensor::full(n as f32, 3, &Device::Cpu).unwrap())
        .collect();
    let cpu = |n: f32| {
        let made = Tensor::full(n, 3, &Device::Cpu).unwrap();
        let (storage, _) = made.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Storage::Cpu(storage.clone()),
            _ => panic!("on the CPU"),
        }
    };
    let old = exchange(&tensors, vec![cpu(7.0), cpu(8.0)]).unwrap();
    assert_eq!(numbers(&tensors[1]), [8.0; 3]);
    exchange(&tensors, old).unwrap();
    assert_eq!(numbers(&tensors[0]), [0.0; 3]);
    assert_eq!(numbers(&tensors[1]), [1.0; 3]);
}

#[test]
fn a_cache_that_is_given_up_holds_nothing_and_is_empty_when_it_is_back() {
    let shape = CacheShape {
        layers: 2,
        blocks: 3,
        block_size: 4,
        kv_heads: 1,
        head_dim: 2,
    };
    let mut cache = KvCache::plain(shape, &Device::Cpu, DType::F32).unwrap();
    let bytes = cache.bytes();
    let k = Tensor::ones((1, 1, 2), DType::F32, &Device::Cpu).unwrap();
    cache.take_up().unwrap();
    cache.write(1, &k, &k, &[5]).unwrap();
    for _ in 0..2 {
        cache.give_up();
        cache.give_up();
        assert_eq!((cache.bytes(), cache.shape()), (0, shape));
        let written = cache.write(1, &k, &k, &[5]).unwrap_err().to_string();
        assert!(written.contains("given up"), "{written}");
        assert!(cache.read(0, &[0]).is_err());
        cache.take_up().unwrap();
        assert_eq!(cache.bytes(), bytes);
        assert_eq!(numbers(&cache.read(1, &[5]).unwrap().0), [0.0; 2]);
        cache.write(1, &k, &k, &[5]).unwrap();
        assert_eq!(numbers(&cache.read(1, &[5]).unwrap().0), [1.0; 2]);
    }
    // On the CPU memory is taken as it is written, and a cache keeps it.
    let mut host = KvCache::new(shape, &Device::Cpu, DType::F32).unwrap();
    let bytes = host.bytes();
    host.give_up();
    assert_eq!(host.bytes(), bytes);
    host.take_up().unwrap();
    host.write(1, &k, &k, &[5]).unwrap();
}
