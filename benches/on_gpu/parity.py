"""The step that runs the compiled parity tests over their fixtures: the same comparisons as `cargo test`'s, with the device, the dtype
and the fixtures' place said by variables. How near is near enough stands in pipelines/nn/tests/on_device/mod.rs."""

import os
import re
import subprocess

from on_gpu.place import Place, without
from on_gpu.worker import Failed

# What holds a result against a reference. In fewer bits another token may be as likely: there logits and pictures are compared, not
# the choices that follow from them.
LOGITS = {
    "chandler-text": ["parity::prefill_and_decode_agree", "parity::every_position_of_a_prompt", "gguf::logits_and_tokens_of_a_gguf",
                      "gguf::every_position_of_a_prompt", "lora::an_adapter_beside_the_model", "lora::in_candle_operations_too", "ahead::the_same_is_said"],
    "chandler-speech": ["whisper::parity::the_encoder_agrees", "whisper::parity::logits_", "ctc::logits_texts_and_words"],
    "chandler-image": ["convolution::", "unet::parity::a_batch_with_a_timestep", "unet::control::what_a_controlnet_adds", "autoencoder::kl::a_whole_picture", "autoencoder::kl::tiles_a_step_at_a_time",
                       "autoencoder::tiny::a_preview", "text::clip::stable_diffusion", "text::t5::hidden_states", "transformers::flux_gives",
                       "transformers::stable_diffusion_3_gives", "pixart::a_batch_of_texts", "lora::parity::", "serving::parity::pictures_are"],
}
CHOICES = {
    "chandler-text": [],
    "chandler-speech": ["whisper::parity::"],
    "chandler-image": [],
}
LINE = re.compile(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", re.MULTILINE)


def parity(place: Place) -> None:
    """All parity fixtures, in f32 and in bf16, with kernels of our own and in candle's operations."""
    if place.tests is None:
        place.tell("parity", "not carried: pack --tests names the folder of the compiled tests")
        return
    failed = []
    for told, tuning in (("", "default"), (", without fused", without("fused"))):
        for dtype in ("f32", "bf16"):
            for crate in LOGITS:
                failed += run(place, crate, dtype, (told, tuning))
    if failed:
        raise Failed(f"not as the references have it: {', '.join(failed)}")


def run(place: Place, crate: str, dtype: str, switches: tuple[str, str]) -> list[str]:
    """One crate's tests in one dtype; those that failed."""
    told, tuning = switches
    names = LOGITS[crate] + (CHOICES[crate] if dtype == "f32" else [])
    asked = {"CHANDLER_TEST_DEVICE": place.device, "CHANDLER_TEST_DTYPE": dtype, "CHANDLER_TEST_CUDA_TUNING": tuning, "CHANDLER_TEST_FIXTURES": str(place.fixtures),
             "TMPDIR": str(place.work), "RUST_BACKTRACE": "0"}
    # One after the other: tests share the GPU, and each would wait for the others.
    command = [str(place.tests / crate), "--test-threads", "1", *names]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **asked})
    results = LINE.findall(done.stdout)
    wrong = [name for name, result in results if result != "ok"]
    place.tell(f"{crate}, {dtype}{told}", f"{len(results) - len(wrong)} of {len(results)} tests as the references have it", tests=dict(results))
    if done.returncode or not results:
        print(done.stdout[-6000:], done.stderr[-2000:], sep="\n", flush=True)
        return [f"{crate} {dtype}{told} {name}" for name in wrong or [f"ended with {done.returncode}"]]
    return []
