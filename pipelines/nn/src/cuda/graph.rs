//! A stretch of work recorded once, and launched again as a whole: a CUDA graph. What changes from one time to the next lies in memory
//! whose address stays. Apart from the launches that it records. Not run on a GPU yet.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraph, CUgraphInstantiate_flags, CUgraphNode, CUgraphNodeType, CUmemorytype,
    CUstreamCaptureMode, cuGraphGetNodes, cuGraphMemcpyNodeGetParams, cuGraphNodeGetType,
};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, DriverError};
use candle_core::{CudaDevice, Device, Result as Candle, Tensor};

use super::gpu::{is_enabled, overwritten, wrapped};
use crate::error::{NnError, Result};

/// The switch `graphs` of `--cuda-tuning`.
static ENABLED: AtomicBool = AtomicBool::new(true);

pub(super) fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Numbers that the work asks for while it is recorded, and where they lie.
struct Fed {
    numbers: Vec<u32>,
    address: u64,
    uses: usize,
}

thread_local! {
    /// While this thread records, or does what it is about to record.
    static FED: RefCell<Option<Vec<Fed>>> = const { RefCell::new(None) };
}

/// Where numbers lie that a recording was fed with; none when nothing is recorded.
pub(super) fn fed(numbers: &[u32]) -> Candle<Option<u64>> {
    FED.with_borrow_mut(|fed| match fed {
        None => Ok(None),
        Some(fed) => match fed.iter_mut().find(|fed| fed.numbers == numbers) {
            Some(found) => {
                found.uses += 1;
                Ok(Some(found.address))
            }
            None => candle_core::bail!("a recording uses numbers that it was not fed with"),
        },
    })
}

/// Work that can be launched again.
pub(crate) struct Graph(CudaGraph);

// SAFETY: a graph is used by one thread at a time: launching takes `&mut`, and dropping owns it.
unsafe impl Send for Graph {}

impl Graph {
    /// Whether work on this device can be recorded: kernels of ours take their numbers from where they are fed, memory is asked of the
    /// stream, and no events are recorded around tensors.
    pub(crate) fn is_possible(device: &Device) -> bool {
        let Device::Cuda(cuda) = device else {
            return false;
        };
        let stream = cuda.cuda_stream();
        ENABLED.load(Ordering::Relaxed)
            && is_enabled()
            && !cuda.is_event_tracking()
            && stream.context().has_async_alloc()
    }

    /// Does the work once as it is, then once more recording it: what the first time gave, and the graph. The work asks for no numbers
    /// but those of `fed`, each as often as is said there, which lie in the tensors beside them; it leaves nothing but what it has
    /// written to tensors that were there before.
    ///
    /// # Errors
    /// What the work says; and that it cannot be recorded, with the reason.
    pub(crate) fn record<T, E: From<NnError>>(
        device: &Device,
        fed: &[(&[u32], usize, &Tensor)],
        work: &mut dyn FnMut(bool) -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, std::result::Result<Self, E>), E> {
        let cuda = device.as_cuda_device().map_err(NnError::from)?;
        let mut all = Vec::with_capacity(fed.len());
        for (numbers, _, tensor) in fed {
            all.push(Fed {
                numbers: numbers.to_vec(),
                address: overwritten(tensor, numbers).map_err(NnError::from)?,
                uses: 0,
            });
        }
        // candle keeps the shapes and strides that it sends to the GPU, and refuses to send others while a stream records.
        let _kept = cuda.enable_cuda_graph_htod_cache();
        FED.set(Some(all));
        let first = work(false);
        let used = FED.take().unwrap_or_default();
        let first = first?;
        let wrong = fed
            .iter()
            .zip(&used)
            .find(|((_, wanted, _), fed)| *wanted != fed.uses);
        if let Some(((_, wanted, _), fed)) = wrong {
            return Ok((
                first,
                Err(unfit(format!(
                    "numbers were used {} times, not {wanted}",
                    fed.uses
                ))
                .into()),
            ));
        }
        FED.set(Some(used));
        let recorded = recorded(cuda, work);
        FED.set(None);
        Ok((first, recorded))
    }

    /// All of it once more, with what lies now where it was fed from.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.0.launch().map_err(wrapped)?;
        Ok(())
    }
}

fn recorded<T, E: From<NnError>>(
    cuda: &CudaDevice,
    work: &mut dyn FnMut(bool) -> std::result::Result<T, E>,
) -> std::result::Result<Graph, E> {
    let stream = cuda.cuda_stream();
    let begun = stream
        // Other threads may use the driver meanwhile.
        .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    begun.map_err(|error| NnError::from(wrapped(error)))?;
    let done = work(true).map(drop);
    // Whatever has happened, the stream computes again after this.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    // What failed while recording may have left its error behind: of a tensor that was given back, for one. It is told here.
    let left = stream.context().check_err();
    done?;
    Ok(checked(graph, left)?)
}

fn checked(
    graph: std::result::Result<Option<CudaGraph>, DriverError>,
    left: std::result::Result<(), DriverError>,
) -> Result<Graph> {
    let graph = graph
        .map_err(wrapped)?
        .ok_or_else(|| unfit("nothing was recorded".to_owned()))?;
    left.map_err(wrapped)?;
    if reads_the_host(graph.cu_graph()).map_err(wrapped)? {
        return Err(unfit(
            "it would read memory of the host again that is gone".to_owned(),
        ));
    }
    graph.upload().map_err(wrapped)?;
    Ok(Graph(graph))
}

/// Whether something is copied from the host: that would be read again at every launch.
fn reads_the_host(graph: CUgraph) -> std::result::Result<bool, DriverError> {
    let mut count = 0;
    // SAFETY: without a place for nodes their number is told.
    unsafe { cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count) }.result()?;
    let mut nodes: Vec<CUgraphNode> = vec![std::ptr::null_mut(); count];
    // SAFETY: there is room for as many nodes.
    unsafe { cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count) }.result()?;
    for node in nodes {
        let mut kind = MaybeUninit::uninit();
        // SAFETY: a node of this graph, and one number is written.
        let kind = unsafe {
            cuGraphNodeGetType(node, kind.as_mut_ptr()).result()?;
            kind.assume_init()
        };
        if kind != CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY {
            continue;
        }
        let mut copy = MaybeUninit::uninit();
        // SAFETY: a node that copies, whose parameters are written whole.
        let copy = unsafe {
            cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()).result()?;
            copy.assume_init()
        };
        if copy.srcMemoryType == CUmemorytype::CU_MEMORYTYPE_HOST {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unfit(reason: String) -> NnError {
    NnError::Input {
        what: "recording",
        reason,
    }
}
