//! A stretch of work recorded once, and launched again as a whole: a CUDA graph. What changes from one time to the next lies in memory
//! whose address stays. Apart from the launches that it records. Not run on a GPU yet.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUgraphNode, CUgraphNodeType, CUmemorytype,
    CUstreamCaptureMode, cuGraphGetNodes, cuGraphMemcpyNodeGetParams, cuGraphNodeGetType,
};
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DriverError, result};
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

/// While it lives, numbers come from where they are fed; whatever happens to the work, a panic too, they do not afterwards.
struct Feeding;

impl Feeding {
    fn begin(fed: Vec<Fed>) -> Self {
        FED.set(Some(fed));
        Self
    }

    fn end(self) -> Vec<Fed> {
        FED.take().unwrap_or_default()
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        FED.set(None);
    }
}

/// A stream that records, until this is dropped at the latest.
struct Recording {
    stream: Arc<CudaStream>,
    ended: bool,
}

impl Recording {
    fn begin(stream: Arc<CudaStream>) -> Candle<Self> {
        // Other threads may use the driver meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(wrapped)?;
        Ok(Self {
            stream,
            ended: false,
        })
    }

    /// Ends it by the driver's own call: cudarc's does not come to it while an error waits to be told, and one does where something failed
    /// while it recorded, of memory that was given back for one. Such an error is told here.
    fn end(mut self) -> std::result::Result<Recorded, DriverError> {
        self.ended = true;
        let left = self.stream.context().check_err();
        // SAFETY: the stream is alive, and recording was begun on it.
        let graph = unsafe { result::stream::end_capture(self.stream.cu_stream()) };
        let recorded = Recorded(graph?);
        left?;
        Ok(recorded)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The work panicked. What it left is thrown away, so that the stream computes again.
        let _ = self.stream.context().check_err();
        // SAFETY: as in `end`.
        let graph = unsafe { result::stream::end_capture(self.stream.cu_stream()) };
        drop(graph.map(Recorded));
    }
}

/// What was recorded; null where it was nothing.
struct Recorded(CUgraph);

impl Drop for Recorded {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is destroyed once. What it takes is the host's: nothing of the GPU is lost where this fails.
            let _ = unsafe { result::graph::destroy(self.0) };
        }
    }
}

/// Work that can be launched again.
pub(crate) struct Graph {
    executable: CUgraphExec,
    stream: Arc<CudaStream>,
}

// SAFETY: a graph is used by one thread at a time: launching takes `&mut`, and dropping owns it.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once; the driver waits with that for a launch that is under way.
        if let Err(error) = unsafe { result::graph::exec_destroy(self.executable) } {
            tracing::warn!(%error, "a recorded pass was not given back");
        }
    }
}

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

    /// Does the work once as it is, then once more recording it: what the first time gave, and the graph or why there is none. The work
    /// asks for no numbers but those of `fed`, each as often as is said there, which lie in the tensors beside them; it leaves nothing
    /// but what it has written to tensors that were there before.
    ///
    /// # Errors
    /// What the work says the first time.
    pub(crate) fn record<T, E: From<NnError>>(
        device: &Device,
        fed: &[(&[u32], usize, &Tensor)],
        work: &mut dyn FnMut() -> std::result::Result<T, E>,
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
        let feeding = Feeding::begin(all);
        let first = work()?;
        let used = feeding.end();
        let mut wanted = fed.iter().map(|(_, wanted, _)| *wanted).zip(&used);
        if let Some((wanted, fed)) = wanted.find(|(wanted, fed)| *wanted != fed.uses) {
            let why = format!("numbers were used {} times, not {wanted}", fed.uses);
            return Ok((first, Err(unfit(why).into())));
        }
        let _feeding = Feeding::begin(used);
        Ok((first, recorded(cuda, work)))
    }

    /// All of it once more, with what lies now where it was fed from.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(wrapped)?;
        // SAFETY: both are alive, and all that it works on is, as the caller of `record` sees to.
        unsafe { result::graph::launch(self.executable, self.stream.cu_stream()) }
            .map_err(wrapped)?;
        Ok(())
    }
}

fn recorded<T, E: From<NnError>>(
    cuda: &CudaDevice,
    work: &mut dyn FnMut() -> std::result::Result<T, E>,
) -> std::result::Result<Graph, E> {
    let stream = cuda.cuda_stream();
    let recording = Recording::begin(stream.clone()).map_err(NnError::from)?;
    let done = work().map(drop);
    let recorded = recording.end();
    done?;
    Ok(launchable(recorded, stream)?)
}

fn launchable(
    recorded: std::result::Result<Recorded, DriverError>,
    stream: Arc<CudaStream>,
) -> Result<Graph> {
    let recorded = recorded.map_err(wrapped)?;
    if recorded.0.is_null() {
        return Err(unfit("nothing was recorded".to_owned()));
    }
    if reads_the_host(recorded.0).map_err(wrapped)? {
        let why = "it would read memory of the host again that is gone".to_owned();
        return Err(unfit(why));
    }
    // SAFETY: the graph is alive; what is made of it lives without it.
    let executable = unsafe { result::graph::instantiate(recorded.0, CUgraphInstantiate_flags(0)) };
    let graph = Graph {
        executable: executable.map_err(wrapped)?,
        stream,
    };
    // SAFETY: both are alive.
    unsafe { result::graph::upload(graph.executable, graph.stream.cu_stream()) }
        .map_err(wrapped)?;
    Ok(graph)
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
