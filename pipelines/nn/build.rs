//! Compiles the kernels of `src/cuda` to PTX where the feature `cuda` asks for them, with the compiler that candle's are compiled
//! with: `NVCC`, or `nvcc` of CUDA_HOME, CUDA_PATH or PATH.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sources, and the first capability with the instructions that each is written in. PTX of it runs on all later ones, and on none
/// before: the small layers are compiled for an older one where CUDA_COMPUTE_CAP names that. docker/cuda/nvcc.sh puts its own list in
/// the place of this.
const KERNELS: [(&str, u32); 3] = [
    ("chandler_attention", 80),
    ("chandler_layers", 75),
    ("chandler_sampling", 75),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cuda");
    for name in [
        "NVCC",
        "CUDA_HOME",
        "CUDA_PATH",
        "CHANDLER_CUDA_CAPABILITIES",
        "CUDA_COMPUTE_CAP",
    ] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let out = PathBuf::from(
        env::var_os("OUT_DIR").ok_or("cargo did not say where to build: no OUT_DIR")?,
    );
    let named = env::var("CUDA_COMPUTE_CAP").ok();
    let named = named.and_then(|named| named.trim_end_matches('a').parse::<u32>().ok());
    for (kernel, first) in KERNELS {
        let capability = match kernel {
            "chandler_attention" => first,
            _ => named.map_or(first, |named| named.min(first)),
        };
        let code = format!("-gencode=arch=compute_{capability},code=compute_{capability}");
        let source = Path::new("src/cuda").join(kernel).with_extension("cu");
        compile(&source, &code, &out)?;
    }
    Ok(())
}

fn compile(source: &Path, code: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let compiler = compiler();
    let said = |what: String| format!("{} on {}: {what}", compiler.display(), source.display());
    let status = Command::new(&compiler)
        .args(["--ptx", "-std=c++17", "-O3", code, "--output-directory"])
        .arg(out)
        .arg(source)
        .status()
        .map_err(|error| {
            said(format!(
                "{error}; the feature `cuda` needs NVIDIA's compiler: docker/build-cuda.sh sets one up, NVCC names another"
            ))
        })?;
    match status.success() {
        true => Ok(()),
        false => Err(said(status.to_string()).into()),
    }
}

fn compiler() -> PathBuf {
    if let Some(named) = env::var_os("NVCC") {
        return named.into();
    }
    let found = ["CUDA_HOME", "CUDA_PATH"].into_iter().find_map(|name| {
        let path = Path::new(&env::var_os(name)?).join("bin/nvcc");
        path.is_file().then_some(path)
    });
    found.unwrap_or_else(|| "nvcc".into())
}
