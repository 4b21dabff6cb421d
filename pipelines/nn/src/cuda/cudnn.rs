//! cuDNN's objects: a handle, and the descriptors of one convolution. Apart from `convolution`, which knows when they are made and used;
//! and not cudarc's, which say nothing of any algorithm but the first and panic where giving back fails.
//! Not run on a GPU yet.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use candle_core::DType;
use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::cuda_backend::cudarc::driver::CudaStream;

use super::plans::{Shape, Way};

/// Answers that are asked for of the heuristics: an algorithm may stand among them with several types of arithmetic.
const ANSWERS: usize = 16;

/// An algorithm and its arithmetic.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    algorithm: sys::cudnnConvolutionFwdAlgo_t,
    math: sys::cudnnMathType_t,
}

/// Addresses on the GPU; of the workspace its bytes too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffers {
    pub x: u64,
    pub weight: u64,
    pub out: u64,
    pub workspace: (u64, usize),
}

/// Whether cuDNN says that it does not do this, and has begun nothing: `BAD_PARAM` and `NOT_SUPPORTED` with all their kinds, which
/// cuDNN 9 numbers from 2000 and 3000 on; and a library of its own that is not there (1008), or kernels that could not be compiled (4001)
/// or launched as they were (4005).
pub(super) fn is_refusal(error: &CudnnError) -> bool {
    matches!(error.0 as u32, 2000..=3999 | 1008 | 4001 | 4005)
}

/// cuDNN on one stream. One thread at a time may use it.
pub(super) struct Handle(sys::cudnnHandle_t);

impl Handle {
    /// The thread is bound to the stream's GPU.
    pub(super) fn new(stream: &CudaStream) -> Result<Self, CudnnError> {
        let handle = Self(result::create_handle()?);
        // SAFETY: the handle has just been made, for the GPU of the stream.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast())? };
        Ok(handle)
    }

    /// What cuDNN's heuristics think can be done, the fastest first.
    ///
    /// They are asked, and no algorithm is measured: measuring runs each several times (seconds for a shape of a large picture), which
    /// the first request of a size would wait for, and needs room for another output while it does.
    pub(super) fn ways(&self, descriptors: &Descriptors) -> Result<Vec<Way<How>>, CudnnError> {
        let mut count: c_int = 0;
        // SAFETY: a structure of numbers, and of enumerations that all have a 0.
        let mut answers =
            [unsafe { std::mem::zeroed::<sys::cudnnConvolutionFwdAlgoPerf_t>() }; ANSWERS];
        // SAFETY: all descriptors are set, and there is room for as many answers as are asked for.
        unsafe {
            result::get_convolution_forward_algorithm(
                self.0,
                descriptors.x.0,
                descriptors.weight.0,
                descriptors.convolution.0,
                descriptors.out.0,
                ANSWERS as c_int,
                &mut count,
                answers.as_mut_ptr(),
            )?;
        }
        let answers = answers.iter().take(usize::try_from(count).unwrap_or(0));
        let done =
            answers.filter(|answer| answer.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS);
        Ok(done
            .map(|answer| Way {
                how: How {
                    algorithm: answer.algo,
                    // The heuristics may have a plainer one for an algorithm of half precision, which is then the one it goes with. In f32
                    // it is what decides of TF32, and stays what was asked for.
                    math: match descriptors.dtype {
                        DType::F32 => descriptors.math,
                        _ => answer.mathType,
                    },
                },
                bytes: answer.memory,
            })
            .collect())
    }

    /// Gives the stream one convolution.
    ///
    /// # Safety
    /// The buffers are of this GPU and as large as the shape that the descriptors were made of says; they live until the stream has done
    /// this, and nothing else writes to the workspace meanwhile.
    pub(super) unsafe fn convolve(
        &self,
        descriptors: &Descriptors,
        how: How,
        buffers: Buffers,
    ) -> Result<(), CudnnError> {
        let (one, zero) = (1f32, 0f32);
        let (workspace, bytes) = buffers.workspace;
        // SAFETY: the descriptors are set; factors are of f32 for all floats but those of 64 bits; the rest is the caller's promise.
        unsafe {
            result::set_convolution_math_type(descriptors.convolution.0, how.math)?;
            result::convolution_forward(
                self.0,
                (&raw const one).cast(),
                descriptors.x.0,
                buffers.x as *const c_void,
                descriptors.weight.0,
                buffers.weight as *const c_void,
                descriptors.convolution.0,
                how.algorithm,
                workspace as *mut c_void,
                bytes,
                (&raw const zero).cast(),
                descriptors.out.0,
                buffers.out as *mut c_void,
            )
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is given back once.
        if let Err(error) = unsafe { result::destroy_handle(self.0) } {
            tracing::warn!(%error, "cuDNN was not given back");
        }
    }
}

/// A descriptor, given back when it is dropped.
macro_rules! descriptor {
    ($name:ident, $of:ty, $create:path, $destroy:path) => {
        struct $name($of);

        impl $name {
            fn new() -> Result<Self, CudnnError> {
                $create().map(Self)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: it is given back once. It is memory of the host's: nothing is lost to the GPU where this fails.
                let _ = unsafe { $destroy(std::mem::replace(&mut self.0, null_mut())) };
            }
        }
    };
}

descriptor!(
    TensorDescriptor,
    sys::cudnnTensorDescriptor_t,
    result::create_tensor_descriptor,
    result::destroy_tensor_descriptor
);
descriptor!(
    FilterDescriptor,
    sys::cudnnFilterDescriptor_t,
    result::create_filter_descriptor,
    result::destroy_filter_descriptor
);
descriptor!(
    ConvolutionDescriptor,
    sys::cudnnConvolutionDescriptor_t,
    result::create_convolution_descriptor,
    result::destroy_convolution_descriptor
);

/// What cuDNN is told of one shape.
pub(super) struct Descriptors {
    dtype: DType,
    math: sys::cudnnMathType_t,
    x: TensorDescriptor,
    weight: FilterDescriptor,
    out: TensorDescriptor,
    convolution: ConvolutionDescriptor,
}

impl Descriptors {
    pub(super) fn new(shape: &Shape) -> Result<Self, CudnnError> {
        let made = Self {
            dtype: shape.dtype,
            math: math(shape),
            x: TensorDescriptor::new()?,
            weight: FilterDescriptor::new()?,
            out: TensorDescriptor::new()?,
            convolution: ConvolutionDescriptor::new()?,
        };
        let number = match shape.dtype {
            DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
            DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            _ => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        };
        let planes = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let [down, right] = shape.padding;
        let [rows, columns] = shape.stride;
        // SAFETY: the descriptors have just been made.
        unsafe {
            result::set_tensor4d_descriptor(made.x.0, planes, number, shape.x)?;
            result::set_filter4d_descriptor(made.weight.0, number, planes, shape.weight)?;
            result::set_tensor4d_descriptor(made.out.0, planes, number, shape.out)?;
            result::set_convolution2d_descriptor(
                made.convolution.0,
                down,
                right,
                rows,
                columns,
                1,
                1,
                // What torch and candle call a convolution: the kernel is not turned round.
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                // Sums in f32 whatever the numbers are; candle has f16 summed in f16.
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_group_count(made.convolution.0, shape.groups)?;
            result::set_convolution_math_type(made.convolution.0, made.math)?;
        }
        Ok(made)
    }
}

/// What the heuristics may choose from, as PyTorch has it (aten/src/ATen/native/cudnn/Conv_v7.cpp, "behavior of cudnnFind and
/// cudnnGet"). Half precision: tensor cores are looked at only where they are allowed by name; candle sets nothing, and gets the default,
/// which does not allow them before capability 8.0. f32: that same default means TF32 from 8.0 on, which is `tf32`'s to decide
/// here; without it fused multiplications and additions of f32.
fn math(shape: &Shape) -> sys::cudnnMathType_t {
    match (shape.dtype, shape.exact) {
        (DType::F32, true) => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        (DType::F32, false) => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        _ => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}
