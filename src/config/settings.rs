//! Every setting there is: one row each, holding its type, default, flag, variables and help. The flags, `Settings`,
//! `config show` and the errors are all made from these rows, so that a setting is added in one place.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::ConfigError;
use super::adapters::Adapters;
use super::address::{HttpUrl, S3Place};
use super::listening::{Host, Origin, Route};
use super::quantity::ByteSize;
use super::setting::{Found, Group, Setting, Shown, Spec, read, var, var_with};
use super::value::{
    Activations, CudaSwitch, Device, Dtype, Factor, LogFilter, LogFormat, MirrorScope, Permission,
    Quantize, S3Addressing, Speculate, Strength, Switch, Value, Variant,
};
use crate::reach::Allowed;

macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $key:ident: $type:ty = $default:literal $(($otherwise:literal))?,
        $group:ident, $flag:expr, $value_name:literal, [$($variable:expr),+];
    )+) => {
        /// Everything that can be set, resolved once at the start and never changed.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $help])+ pub $key: Setting<$type>,)+
        }

        /// The rows, in the order of the help.
        pub const SPECS: &[Spec] = &[$(Spec {
            key: stringify!($key),
            flag: $flag,
            value_name: $value_name,
            variables: &[$($variable),+],
            default: $default,
            otherwise: concat!($($otherwise)?),
            repeated: <$type as Value>::REPEATED,
            bare: <$type as Value>::BARE,
            help: &[$($help),+],
            group: Group::$group,
        }),+];

        impl Settings {
            /// Asks `find` for every row's text and reads it.
            pub(super) fn build(
                mut find: impl FnMut(&'static Spec) -> Result<Found, ConfigError>,
            ) -> Result<Self, ConfigError> {
                let mut specs = SPECS.iter();
                let mut next = || specs.next().ok_or(ConfigError::Table);
                Ok(Self {
                    $($key: { let spec = next()?; read::<$type>(spec, find(spec)?)? },)+
                })
            }

            /// Every setting as `config show` prints it.
            pub fn shown(&self) -> Vec<Shown> {
                vec![$(Shown {
                    key: stringify!($key),
                    value: self.$key.value.show(),
                    source: self.$key.source.clone(),
                    otherwise: concat!($($otherwise)?),
                }),+]
            }
        }
    };
}

settings! {
    /// The model to load: a name from `chandler models`, a repository on the Hugging Face hub (org/name, org/name@revision,
    /// of a GGUF repository org/name:Q4_K_M or org/name:file.gguf, of a diffusion checkpoint in one file org/name:file.safetensors),
    /// a directory in the Hugging Face layout, a .gguf file, a diffusion checkpoint in one .safetensors file, s3://bucket/prefix,
    /// gs://bucket/prefix, `demo` (a small chat model inside this program) or `mock` (no model at all: it
    /// says the prompt's words back, for load tests). On Vertex AI the model's artifacts (AIP_STORAGE_URI) when nothing else
    /// names one.
    model: String = "demo", Model, Some("model"), "MODEL",
        [var("CHANDLER_MODEL"), var("HF_MODEL_ID"), var("MODEL_NAME"), var("MODEL_ID")];
    /// Which revision of the model: a branch, a tag or a commit. A directory has none.
    revision: Option<String> = "" ("the card's, else the source's main branch"), Model, Some("revision"), "REVISION",
        [var("CHANDLER_REVISION"), var("MODEL_REVISION")];
    /// The name that clients call the model by, instead of its own.
    served_model_name: Option<String> = "" ("the model's own id"), Model, Some("served-model-name"), "NAME",
        [var("CHANDLER_SERVED_MODEL_NAME"), var("SERVED_MODEL_NAME"), var("OPENAI_SERVED_MODEL_NAME_OVERRIDE")];
    /// Further names that requests may call the model by, with commas between them: whisper-1 for clients that send OpenAI's names
    /// whatever is served. Any other name gets 404.
    model_aliases: Vec<String> = "" ("the card's other names, and default"), Model, Some("model-aliases"), "NAMES",
        [var("CHANDLER_MODEL_ALIASES")];
    /// An adapter (LoRA) that requests may name as their model: name=directory, name=org/repository or name=s3://bucket/prefix,
    /// as peft saves it; of an image model also one file of kohya's or diffusers' trainers, name=dir/file.safetensors or
    /// name=org/repository:file.safetensors, several of which a request may give weights (`loras`). Several are given one flag each,
    /// or with commas between them; all are loaded with the model and share its batch.
    lora: Adapters = "" ("none"), Model, Some("lora"), "NAME=PLACE", [var("CHANDLER_LORA"), var("LORA_MODULES")];
    /// A ControlNet beside an image model, that requests name in their controls (the first where they name none): name=directory,
    /// name=org/repository, name=s3://bucket/prefix or name=file.safetensors, several as with --lora.
    control: Adapters = "" ("none"), Model, Some("control"), "NAME=PLACE", [var("CHANDLER_CONTROL")];
    /// A refiner that goes on with the drawings of a model of Stable Diffusion XL: a directory or repository in the diffusers layout, or
    /// one .safetensors file. It takes over at 0.8 of the noise's course where a request does not say (`denoising_end`, of which 1 leaves
    /// it out).
    refiner: Option<String> = "" ("none"), Model, Some("refiner"), "PLACE", [var("CHANDLER_REFINER")];
    /// A tiny autoencoder (AutoencoderTiny, such as madebyollin/taesdxl) that decodes previews, larger and quicker than the model's own:
    /// a directory or repository.
    preview: Option<String> = "" ("the folder taesd of the model, else the model's own autoencoder"), Model, Some("preview"), "PLACE",
        [var("CHANDLER_PREVIEW")];
    /// Denoising steps of a picture whose request says none: few for a model that was distilled to few.
    image_steps: Option<NonZeroUsize> = "" ("the pipeline's own"), Model, Some("image-steps"), "N", [var("CHANDLER_IMAGE_STEPS")];
    /// Guidance of a picture whose request says none; 0 for a model that was distilled to go without.
    image_guidance: Option<Strength> = "" ("the pipeline's own"), Model, Some("image-guidance"), "SCALE", [var("CHANDLER_IMAGE_GUIDANCE")];
    /// Where the model runs: auto is the first GPU in a build with CUDA, and the CPU in one without. cuda:1 is the second GPU.
    device: Device = "auto", Model, Some("device"), "DEVICE", [var("CHANDLER_DEVICE"), var("DEVICE")];
    /// Let a build with CUDA compute on the CPU when it finds no usable GPU. Without it the worker then stops and says why.
    allow_cpu: Permission = "off", Model, Some("allow-cpu"), "SWITCH", [var("CHANDLER_ALLOW_CPU")];
    /// What is set up on a GPU, with commas between: keep-memory, no-events, fused (our own kernels in the place of candle's
    /// operations), staging, sampling, ahead, graphs, plans, preload, warm-up; tf32 and short-sums compute faster and less exactly; none is nothing.
    cuda_tuning: Vec<CudaSwitch> = "keep-memory,no-events,fused,staging,sampling,ahead,graphs,plans,preload,warm-up", Model, Some("cuda-tuning"), "SWITCHES",
        [var("CHANDLER_CUDA_TUNING")];
    /// Numeric type it computes in: auto, f32, f16 or bf16. auto is f32 on a CPU; on a GPU bf16, or f16 where the checkpoint is
    /// in f16 or the GPU has no bf16.
    dtype: Dtype = "auto", Model, Some("dtype"), "DTYPE", [var("CHANDLER_DTYPE"), var("DTYPE")];
    /// Quantise a safetensors checkpoint's matrices while loading: q4k (a quarter of bf16's memory, as llama.cpp's Q4_K_M)
    /// or q8_0 (half, next to lossless). Done once and kept under the cache directory for the next start.
    quantize: Option<Quantize> = "" ("as the checkpoint has them"), Model, Some("quantize"), "SCHEME", [var("CHANDLER_QUANTIZE")];
    /// What quantised weights (a GGUF file, --quantize) are multiplied with on a CPU: f32 is exact; int8 makes bytes of each layer's
    /// input, as llama.cpp and CTranslate2 do, which is up to three times as fast and moves a layer's output by about half a percent.
    activations: Activations = "f32", Model, Some("activations"), "TYPE", [var("CHANDLER_ACTIVATIONS")];
    /// Where work that need not be done twice is kept: quantised weights.
    cache_dir: Option<PathBuf> = "" ("nowhere: no home directory is known"), Model, Some("cache-dir"), "DIRECTORY",
        [var("CHANDLER_CACHE_DIR")];
    /// Tokens of prompt and answer together that a request may have; more is refused. Shorter saves cache memory.
    max_model_len: Option<NonZeroUsize> = "" ("the model's context window"), Model, Some("max-model-len"), "TOKENS",
        [var("CHANDLER_MAX_MODEL_LEN"), var("MAX_MODEL_LEN")];
    /// CPU threads for the model's arithmetic.
    threads: Option<NonZeroUsize> = "" ("one per processor that the container's quota allows"), Model, Some("threads"), "N", [var("CHANDLER_THREADS")];
    /// A TOML file of model cards that are added to the built-in ones; a card with a built-in id replaces it.
    models_file: Option<PathBuf> = "" ("the built-in cards only"), Model, Some("models-file"), "FILE",
        [var("CHANDLER_MODELS")];
    /// Whether the source is asked for a newer model although the cache has one: on or off. Without an answer the cached one
    /// is served.
    refresh: Switch = "off", Weights, Some("refresh"), "SWITCH", [var("CHANDLER_REFRESH")];
    /// Where the Hugging Face hub is: a mirror of it, or a double in tests.
    hub_endpoint: HttpUrl = "https://huggingface.co", Weights, Some("hub-endpoint"), "URL",
        [var("CHANDLER_HUB_ENDPOINT"), var("HF_ENDPOINT")];
    /// Token for gated and private models on the Hugging Face hub. From a variable or the file only; or from the file that
    /// `hf auth login` writes (HF_TOKEN_PATH, else $HF_HOME/token), unless HF_HUB_DISABLE_IMPLICIT_TOKEN is set.
    hf_token: Option<SecretString> = "" ("public models only"), Weights, None, "TOKEN",
        [var("CHANDLER_HF_TOKEN"), var("HF_TOKEN"), var("HUGGING_FACE_HUB_TOKEN")];
    /// Where fetched models are kept, in the layout that huggingface_hub and transformers share.
    hub_cache: Option<PathBuf> = "" ("nowhere: no home directory is known"), Weights, Some("hub-cache"), "DIRECTORY",
        [var("CHANDLER_HUB_CACHE"), var("HF_HUB_CACHE"), var("HUGGINGFACE_HUB_CACHE")];
    /// Further caches of that layout, with commas between them, which are only read, and before the other one: models that
    /// the platform or the image brings along.
    hub_read_caches: Vec<PathBuf> = "" ("none"), Weights, Some("hub-read-caches"), "DIRECTORIES",
        [var("CHANDLER_HUB_READ_CACHES")];
    /// What the cache may hold, such as 200GiB: after a fetch the models that were not used for longest go, and never one
    /// that is in use.
    hub_cache_budget: Option<ByteSize> = "" ("no limit"), Weights, Some("hub-cache-budget"), "SIZE",
        [var("CHANDLER_HUB_CACHE_BUDGET")];
    /// Whether the network stays alone, and a model is in the cache or nowhere: on or off.
    hub_offline: Switch = "off", Weights, Some("hub-offline"), "SWITCH",
        [var("CHANDLER_HUB_OFFLINE"), var("HF_HUB_OFFLINE"), var("TRANSFORMERS_OFFLINE")];
    /// Whether the cache is written without symbolic links, as a file system that has none needs it: on or off. That it has
    /// none is found out by trying, too.
    hub_disable_symlinks: Switch = "off", Weights, Some("hub-disable-symlinks"), "SWITCH",
        [var("CHANDLER_HUB_DISABLE_SYMLINKS"), var("HF_HUB_DISABLE_SYMLINKS")];
    /// How long the hub may take to say what there is.
    hub_etag_timeout: Duration = "10s", Weights, Some("hub-etag-timeout"), "TIME",
        [var("CHANDLER_HUB_ETAG_TIMEOUT"), var("HF_HUB_ETAG_TIMEOUT")];
    /// How long a transfer of weights may stand still before it is asked for again.
    hub_download_timeout: Duration = "10s", Weights, Some("hub-download-timeout"), "TIME",
        [var("CHANDLER_HUB_DOWNLOAD_TIMEOUT"), var("HF_HUB_DOWNLOAD_TIMEOUT")];
    /// Connections that weights come over at the same time, at most.
    download_connections: Option<NonZeroUsize> = "" ("as many as make it faster"), Weights, Some("download-connections"), "N",
        [var("CHANDLER_DOWNLOAD_CONNECTIONS")];
    /// Which of several precisions of the same weights is fetched, as file names call it: default (no mark in the name), fp16,
    /// bf16 and so on. auto takes the one that --dtype names where there is one, and else the one without a mark.
    variant: Variant = "auto", Weights, Some("variant"), "NAME", [var("CHANDLER_VARIANT")];
    /// Languages of a speech model of many (MMS) whose adapters are fetched with it, with commas between them: fra,lug; all is every
    /// one. A request may name any of these.
    speech_languages: Vec<String> = "" ("the model's own, which is in its weights"), Weights, Some("speech-languages"), "LANGUAGES",
        [var("CHANDLER_SPEECH_LANGUAGES")];
    /// An object store that is asked for a hub model before the hub: s3://bucket/prefix.
    mirror: Option<S3Place> = "" ("none"), Weights, Some("mirror"), "S3_URL", [var("CHANDLER_MIRROR")];
    /// What may be done with the mirror: off (nothing), shared (read) or private (read, and filled in the background with what
    /// came from the hub).
    mirror_scope: MirrorScope = "private", Weights, Some("mirror-scope"), "SCOPE", [var("CHANDLER_MIRROR_SCOPE")];
    /// Address of an object store that speaks S3, such as https://ACCOUNT.r2.cloudflarestorage.com.
    s3_endpoint: Option<HttpUrl> = "" ("Amazon's, in the region"), Weights, Some("s3-endpoint"), "URL",
        [var("CHANDLER_S3_ENDPOINT"), var("AWS_ENDPOINT_URL_S3"), var("AWS_ENDPOINT_URL")];
    /// Region of the object store.
    s3_region: Option<String> = "" ("what the address says, else us-east-1"), Weights, Some("s3-region"), "REGION",
        [var("CHANDLER_S3_REGION"), var("AWS_REGION"), var("AWS_DEFAULT_REGION")];
    /// How buckets are addressed: auto (in front of the host at Amazon, in the path elsewhere), path or virtual.
    s3_addressing: S3Addressing = "auto", Weights, Some("s3-addressing"), "HOW", [var("CHANDLER_S3_ADDRESSING")];
    /// Access key id for the object store. From a variable or the file only.
    s3_access_key: Option<SecretString> = "" ("none"), Weights, None, "KEY",
        [var("CHANDLER_S3_ACCESS_KEY"), var("AWS_ACCESS_KEY_ID")];
    /// Secret access key for the object store. From a variable or the file only.
    s3_secret_key: Option<SecretString> = "" ("none"), Weights, None, "KEY",
        [var("CHANDLER_S3_SECRET_KEY"), var("AWS_SECRET_ACCESS_KEY")];
    /// Session token, for keys that were lent for a while. From a variable or the file only.
    s3_session_token: Option<SecretString> = "" ("none"), Weights, None, "TOKEN",
        [var("CHANDLER_S3_SESSION_TOKEN"), var("AWS_SESSION_TOKEN")];
    /// Address of Google Cloud Storage, or of an emulator of it.
    gs_endpoint: Option<HttpUrl> = "" ("Google's"), Weights, Some("gs-endpoint"), "URL",
        [var("CHANDLER_GS_ENDPOINT"), var("STORAGE_EMULATOR_HOST")];
    /// A file with the credentials for Google Cloud Storage: a service account's key, or what `gcloud auth
    /// application-default login` writes.
    gs_credentials: Option<PathBuf> = "" ("the metadata server's, else none"), Weights, Some("gs-credentials"), "FILE",
        [var("CHANDLER_GS_CREDENTIALS"), var("GOOGLE_APPLICATION_CREDENTIALS")];
    /// An access token for Google Cloud Storage, which holds for an hour or so. From a variable or the file only.
    gs_token: Option<SecretString> = "" ("none"), Weights, None, "TOKEN", [var("CHANDLER_GS_TOKEN")];
    /// Host of Google's metadata server.
    gs_metadata_host: Option<String> = "" ("metadata.google.internal"), Weights, Some("gs-metadata-host"), "HOST",
        [var("CHANDLER_GS_METADATA_HOST"), var("GCE_METADATA_HOST")];
    /// Answers that are worked on at the same time; one request takes as many rows as it wants answers (`n`).
    max_rows: NonZeroUsize = "32", Batch, Some("max-rows"), "ROWS",
        [var("CHANDLER_MAX_ROWS"), var("MAX_CONCURRENCY"), var("MAX_NUM_SEQS")];
    /// Requests that may wait for a place in the batch; the next one gets 429 with Retry-After.
    queue: NonZeroUsize = "256", Batch, Some("queue"), "REQUESTS", [var("CHANDLER_QUEUE")];
    /// Prompt tokens read in one step at most. Smaller keeps running answers flowing while a long prompt comes in;
    /// larger reads prompts faster.
    prefill_chunk: NonZeroUsize = "256", Batch, Some("prefill-chunk"), "TOKENS", [var("CHANDLER_PREFILL_CHUNK")];
    /// Memory for the key-value cache, such as 2GiB.
    kv_cache: Option<ByteSize> = "" ("2GiB, or what the longest batch can use when that is less"), Batch, Some("kv-cache"), "SIZE",
        [var("CHANDLER_KV_CACHE")];
    /// Whether what was read of one request serves the next that begins alike: on or off. Kept blocks give way when
    /// their room is needed, and no answer depends on them.
    prefix_cache: Switch = "on", Batch, Some("prefix-cache"), "SWITCH", [var("CHANDLER_PREFIX_CACHE"), var("ENABLE_PREFIX_CACHING")];
    /// Whether finished pictures go through the safety checker of an image model that has one: on or off. What it flags comes back
    /// black, with a mark; there are no previews while it is on, since it does not see those.
    safety_checker: Switch = "on", Batch, Some("safety-checker"), "SWITCH", [var("CHANDLER_SAFETY_CHECKER")];
    /// Guess answers ahead: off, ngram, or ngram:K for up to K tokens (8). Guesses are what followed the same words
    /// before, in prompt or answer, and are checked in one pass: faster where text repeats, slower where it does not,
    /// and the answers stay the same.
    speculate: Speculate = "off", Batch, Some("speculate"), "HOW", [var("CHANDLER_SPECULATE")];
    /// How long a request waits for a model that is still loading before it gets 503 with Retry-After.
    load_wait: Duration = "60s", Batch, Some("load-wait"), "TIME", [var("CHANDLER_LOAD_WAIT"), var("MODEL_LOAD_WAIT_TIMEOUT_SECONDS")];
    /// A client that reads nothing for so long has its request cancelled.
    stall_timeout: Duration = "60s", Batch, Some("stall-timeout"), "TIME", [var("CHANDLER_STALL_TIMEOUT")];
    /// A model on a GPU that was asked nothing for so long leaves it to others: its weights wait in page-locked memory of the host (as
    /// many bytes as on the GPU), its cache is given up, and the next request brings it back, in a fraction of a second. The worker
    /// stays ready meanwhile.
    park_after: Option<Duration> = "" ("never"), Batch, Some("park-after"), "TIME", [var("CHANDLER_PARK_AFTER")];
    /// Address to listen on. 127.0.0.1 keeps the worker to this machine.
    host: Host = "0.0.0.0", Server, Some("host"), "ADDRESS", [var("CHANDLER_HOST")];
    /// Port to listen on; 0 takes a free one and prints it.
    port: u16 = "8080", Server, Some("port"), "PORT",
        [var("CHANDLER_PORT"), var_with("AIP_HTTP_PORT", "AIP_MODE"), var("PORT")];
    /// API keys, with commas between them: when any is set, everything but health asks for one
    /// (`Authorization: Bearer KEY`). From a variable or the file only, since command lines are public.
    api_keys: Vec<SecretString> = "" ("no key is asked for"), Server, None, "KEYS",
        [var("CHANDLER_API_KEYS"), var("API_KEY")];
    /// A file with one API key a line, beside those of CHANDLER_API_KEYS; lines that begin with # are comments.
    api_key_file: Option<PathBuf> = "" ("none"), Server, Some("api-key-file"), "FILE", [var("CHANDLER_API_KEY_FILE")];
    /// Web pages that may call this worker from a browser: origins with commas between them, or * for all.
    cors_origins: Vec<Origin> = "" ("none"), Server, Some("cors-origins"), "ORIGINS",
        [var("CHANDLER_CORS_ORIGINS"), var("CORS_ORIGINS")];
    /// Largest request body, such as 4MiB; a larger one gets 413.
    body_limit: ByteSize = "4MiB", Server, Some("body-limit"), "SIZE", [var("CHANDLER_BODY_LIMIT")];
    /// Largest audio file that is uploaded in a form or sent in base64, such as 100MiB; a larger one gets 413. Forms do not count
    /// against --body-limit; JSON does, and has room for 24MiB of audio at least where the model hears.
    max_upload: ByteSize = "512MiB", Server, Some("max-upload"), "SIZE", [var("CHANDLER_MAX_UPLOAD")];
    /// What uploads, and files that requests name by address, may take in memory together, such as 4GiB: what comes beyond it gets
    /// 429 with Retry-After. Bytes count as they come, until their request has ended. Jobs do not count.
    upload_memory: Option<ByteSize> = "" ("a quarter of the memory that the container may use"), Server, Some("upload-memory"), "SIZE",
        [var("CHANDLER_UPLOAD_MEMORY")];
    /// Requests a minute that each API key (or each client, without keys) may make; the next one gets 429.
    rate_limit: Option<u32> = "" ("no limit"), Server, Some("rate-limit"), "PER_MINUTE", [var("CHANDLER_RATE_LIMIT")];
    /// Longest time from a request's arrival to the end of its answer; what runs longer is cancelled.
    request_timeout: Duration = "10m", Server, Some("request-timeout"), "TIME", [var("CHANDLER_REQUEST_TIMEOUT"), var("REQUEST_TIMEOUT")];
    /// After SIGTERM or Ctrl-C: how long running requests may still take. Kubernetes kills after 30s; Cloud Run after 10s, so
    /// that it is 8s there when nobody says anything.
    drain_grace: Duration = "25s", Server, Some("drain-grace"), "TIME", [var("CHANDLER_DRAIN_GRACE")];
    /// A second port for health alone, for platforms that ask there (RunPod's load balancer does); nothing else answers on it.
    health_port: Option<u16> = "" ("health is on the one port"), Server, Some("health-port"), "PORT",
        [var("CHANDLER_HEALTH_PORT"), var("PORT_HEALTH")];
    /// The path that answers 204 while the model loads and 200 when it serves, as RunPod's load balancer asks.
    ping_route: Option<Route> = "" ("/ping only"), Server, Some("ping-route"), "PATH",
        [var("CHANDLER_PING_ROUTE"), var("HEALTH_CHECK_PATH")];
    /// A further path that answers like /isalive, for platforms that name their own.
    health_route: Option<Route> = "" ("/isalive only"), Server, Some("health-route"), "PATH",
        [var("CHANDLER_HEALTH_ROUTE"), var_with("AIP_HEALTH_ROUTE", "AIP_MODE")];
    /// A further path that answers like /predict, for platforms that name their own.
    predict_route: Option<Route> = "" ("/predict only"), Server, Some("predict-route"), "PATH",
        [var("CHANDLER_PREDICT_ROUTE"), var_with("AIP_PREDICT_ROUTE", "AIP_MODE")];
    /// RunPod's client-side routes (/run, /runsync, /status, /stream, /cancel) on this worker's own port, for trying a client
    /// against it without the platform: on or off.
    local_api: Switch = "off", RunPod, Some("local-api"), "SWITCH", [var("CHANDLER_LOCAL_API")];
    /// Events that a job's streamed answer gathers for one chunk at most; each chunk is a request to the platform.
    stream_chunk: NonZeroUsize = "50", RunPod, Some("stream-chunk"), "EVENTS",
        [var("CHANDLER_STREAM_CHUNK"), var("DEFAULT_BATCH_SIZE")];
    /// Events of a stream's first chunk: 1 sends the first word at once.
    stream_chunk_first: NonZeroUsize = "1", RunPod, Some("stream-chunk-first"), "EVENTS",
        [var("CHANDLER_STREAM_CHUNK_FIRST"), var("MIN_BATCH_SIZE"), var("DEFAULT_MIN_BATCH_SIZE")];
    /// How many times larger each next chunk is, up to the largest.
    stream_chunk_growth: Factor = "3", RunPod, Some("stream-chunk-growth"), "FACTOR",
        [var("CHANDLER_STREAM_CHUNK_GROWTH"), var("BATCH_SIZE_GROWTH_FACTOR"), var("DEFAULT_BATCH_SIZE_GROWTH_FACTOR")];
    /// Whether jobs for OpenAI's routes stream the events as text, as the platform's own /openai path needs it, or as lists
    /// of the objects in them: on or off.
    raw_openai_output: Switch = "on", RunPod, Some("raw-openai-output"), "SWITCH",
        [var("CHANDLER_RAW_OPENAI_OUTPUT"), var("RAW_OPENAI_OUTPUT")];
    /// Jobs that are taken ahead of those that the model works on, so that there is no gap between them.
    runpod_prefetch: Option<usize> = "" ("one while jobs take under 2s, none when they are longer"), RunPod, Some("runpod-prefetch"), "JOBS",
        [var("CHANDLER_RUNPOD_PREFETCH")];
    /// Hosts (minio.internal, localhost:9000) and networks (10.0.0.0/8) that addresses in requests and jobs may reach besides
    /// the public internet.
    allow_hosts: Vec<Allowed> = "" ("the public internet only"), Outward, Some("allow-hosts"), "HOSTS",
        [var("CHANDLER_ALLOW_HOSTS")];
    /// Whether addresses in requests and jobs may reach every private network: on or off. Better name hosts with
    /// --allow-hosts.
    allow_private_urls: Switch = "off", Outward, Some("allow-private-urls"), "SWITCH",
        [var("CHANDLER_ALLOW_PRIVATE_URLS"), var("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS")];
    /// Largest file that is downloaded for a request, such as 100MiB.
    max_download: ByteSize = "512MiB", Outward, Some("max-download"), "SIZE",
        [var("CHANDLER_MAX_DOWNLOAD"), var("RUNPOD_MAX_DOWNLOAD_BYTES"), var("MAX_INPUT_DOWNLOAD_BYTES")];
    /// How long such a download may take in all.
    download_timeout: Duration = "60s", Outward, Some("download-timeout"), "TIME", [var("CHANDLER_DOWNLOAD_TIMEOUT")];
    /// Where a job's files, and outputs that are too large to be sent back, are uploaded: s3://bucket/prefix. A job's own
    /// s3Config comes first.
    output_s3: Option<S3Place> = "" ("the bucket of BUCKET_ENDPOINT_URL, else nowhere"), Outward, Some("output-s3"), "S3_URL",
        [var("CHANDLER_OUTPUT_S3"), var("OUTPUT_S3_URL")];
    /// Outputs of jobs that are larger go to the object store, where there is one.
    output_inline_limit: Option<ByteSize> = "" ("what RunPod takes: 10MB of /run, 20MB of /runsync"), Outward, Some("output-inline-limit"), "SIZE",
        [var("CHANDLER_OUTPUT_INLINE_LIMIT")];
    /// How long the signed address of an uploaded output holds; 7d at most.
    output_url_expiry: Duration = "7d", Outward, Some("output-url-expiry"), "TIME", [var("CHANDLER_OUTPUT_URL_EXPIRY")];
    /// Address of the object store that outputs go to, as RunPod's own workers read it; the bucket may stand in it.
    bucket_endpoint_url: Option<HttpUrl> = "" ("that of --s3-endpoint"), Outward, Some("bucket-endpoint-url"), "URL",
        [var("CHANDLER_BUCKET_ENDPOINT_URL"), var("BUCKET_ENDPOINT_URL")];
    /// The bucket that outputs go to, when neither --output-s3 nor the address names it.
    bucket_name: Option<String> = "" ("the month, as RunPod's own workers have it: 11-26"), Outward, Some("bucket-name"), "NAME",
        [var("CHANDLER_BUCKET_NAME"), var("BUCKET_NAME")];
    /// Access key id for the store of outputs. From a variable or the file only.
    bucket_access_key_id: Option<SecretString> = "" ("that of s3_access_key"), Outward, None, "KEY",
        [var("CHANDLER_BUCKET_ACCESS_KEY_ID"), var("BUCKET_ACCESS_KEY_ID")];
    /// Secret access key for the store of outputs. From a variable or the file only.
    bucket_secret_access_key: Option<SecretString> = "" ("that of s3_secret_key"), Outward, None, "KEY",
        [var("CHANDLER_BUCKET_SECRET_ACCESS_KEY"), var("BUCKET_SECRET_ACCESS_KEY")];
    /// Where the worker tells that it is loading, ready, failed or stopping: each is a POST of JSON with the times of the
    /// cold start, tried five times.
    webhook_url: Option<HttpUrl> = "" ("nowhere"), Outward, Some("webhook-url"), "URL", [var("CHANDLER_WEBHOOK_URL")];
    /// Signs these messages: X-Chandler-Signature is t=TIME,v1=HMAC-SHA256(secret, "TIME.BODY"). From a variable or the file
    /// only.
    webhook_secret: Option<SecretString> = "" ("messages are not signed"), Outward, None, "SECRET",
        [var("CHANDLER_WEBHOOK_SECRET")];
    /// A gateway that is told what this worker offers: models, address, limits, state. Each is a POST of JSON, when the state
    /// changes and again every --register-every; at the end DELETE URL/WORKER_ID takes the worker off.
    register: Option<HttpUrl> = "" ("nowhere"), Outward, Some("register"), "URL", [var("CHANDLER_REGISTER")];
    /// The address at which the gateway reaches this worker, where it is not the one that the worker listens on or that its
    /// platform gives it.
    register_as: Option<HttpUrl> = "" ("what RunPod's variables say, else the address that it listens on"), Outward, Some("register-as"), "URL",
        [var("CHANDLER_REGISTER_AS")];
    /// How often the gateway is told again, so that one which was started anew learns of the worker; 1s at least.
    register_every: Duration = "30s", Outward, Some("register-every"), "TIME", [var("CHANDLER_REGISTER_EVERY")];
    /// Signs what the gateway is told, as webhook_secret does. From a variable or the file only.
    register_secret: Option<SecretString> = "" ("messages are not signed"), Outward, None, "SECRET",
        [var("CHANDLER_REGISTER_SECRET")];
    /// Which log lines are written: error, warn, info, debug, trace or off, or a filter such as info,chandler=debug.
    log_level: LogFilter = "info", Logs, Some("log-level"), "LEVEL",
        [var("CHANDLER_LOG_LEVEL"), var("RUST_LOG"), var("LOG_LEVEL"), var("RUNPOD_LOG_LEVEL"), var("RUNPOD_DEBUG_LEVEL")];
    /// How log lines are written, on standard error: auto (text on a terminal, JSON elsewhere), text, json, or
    /// google (JSON with Cloud Logging's field names: what is written on Vertex AI and Cloud Run when nobody says anything).
    log_format: LogFormat = "auto", Logs, Some("log-format"), "FORMAT", [var("CHANDLER_LOG_FORMAT")];
}

impl Settings {
    /// The address to listen on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.0, *self.port)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::setting::Source;
    use super::*;

    #[test]
    fn names_are_made_from_the_key_and_belong_to_one_setting() {
        let mut seen = BTreeSet::new();
        for spec in SPECS {
            if let Some(flag) = spec.flag {
                assert_eq!(flag, spec.key.replace('_', "-"));
            }
            let own = format!("CHANDLER_{}", spec.key.to_uppercase());
            let expected = if spec.key == "models_file" {
                "CHANDLER_MODELS"
            } else {
                &own
            };
            assert_eq!(spec.variables[0].name, expected);
            for variable in spec.variables {
                assert!(
                    seen.insert(variable.name),
                    "{} gives two settings",
                    variable.name
                );
            }
            assert_eq!(
                spec.default.is_empty(),
                !spec.otherwise.is_empty(),
                "{}",
                spec.key
            );
        }
    }

    #[test]
    fn every_default_reads() {
        let settings = Settings::build(|spec| {
            Ok(Found {
                text: spec.default.to_owned(),
                source: Source::Default,
            })
        })
        .unwrap();
        assert_eq!(settings.shown().len(), SPECS.len());
        assert_eq!(settings.address().to_string(), "0.0.0.0:8080");
        assert_eq!(*settings.request_timeout, Duration::from_secs(600));
        assert!(settings.api_keys.is_empty());
    }
}
