#!/usr/bin/env python3
"""Small audio files in every format that is read, and what ffmpeg (PyAV) or libsndfile (soundfile) decode them to.

Writes fixtures/audio/*, with a manifest. Needs numpy, soundfile and av (requirements.txt); run it once, commit what it
writes. The encoders' output may differ from version to version; the committed files are what the tests are about.
"""

import gzip
import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

SECONDS = 0.25
OUT = Path(__file__).parent / "fixtures" / "audio"


def signal(rate, channels, seconds=SECONDS, seed=0):
    """Something with the shape of speech: a gliding harmonic voice in syllables, and a little noise; never 0 for long."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(rate * seconds)) / rate
    out = []
    for channel in range(channels):
        pitch = 120 * (1 + 0.2 * np.sin(2 * np.pi * 2.3 * t + channel))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        voice = sum(np.sin(k * phase) / k**0.8 for k in range(1, 25) if k * 150 < rate / 2.3)
        syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t + 0.5 + channel)
        out.append(0.12 * voice * syllables + 0.003 * rng.standard_normal(len(t)))
    return np.clip(np.stack(out, 1), -0.99, 0.99)


def to_i16(samples):
    """Interleaved 16-bit integers: what references are kept as."""
    return np.clip(np.round(np.asarray(samples, np.float64) * 32768), -32768, 32767).astype("<i2")


def encode(container, codec, samples, rate, options=None, bit_rate=None):
    """A file made by ffmpeg."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "mono" if samples.shape[1] == 1 else "stereo"
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.options = options or {}
        resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate, frame_size=0)
        frame = av.AudioFrame.from_ndarray(to_i16(samples).reshape(1, -1), format="s16", layout=stream.layout.name)
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size or 1024
        fifo = av.AudioFifo()
        for converted in resampler.resample(frame):
            fifo.write(converted)
        while (part := fifo.read(size)) or (part := fifo.read(partial=True)):
            for packet in stream.encode(part):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return buffer.getvalue()


def rewrap(data, container):
    """The same packets in another container."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as file, av.open(buffer, "w", format=container) as out:
        stream = out.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(file.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return buffer.getvalue()


def decode(data):
    """(samples [frames, channels], rate) as ffmpeg decodes them, with its skipping of encoder delay."""
    parts = []
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        for frame in file.decode(stream):
            planes = frame.to_ndarray()
            if not frame.format.is_planar:
                planes = planes.reshape(-1, frame.layout.nb_channels).T
            if planes.dtype == np.int16:
                planes = planes / 32768
            elif planes.dtype == np.int32:
                planes = planes / 2**31
            elif planes.dtype == np.uint8:
                planes = planes / 128 - 1
            parts.append(planes.T.astype(np.float64))
            rate = frame.rate
    return np.concatenate(parts), rate


def decode_opus(data):
    """By libopus: ffmpeg's own Opus decoder, which it prefers, is far off it in speech."""
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        head = bytes(stream.codec_context.extradata)
        decoder = av.CodecContext.create("libopus", "r")
        decoder.extradata, decoder.layout, decoder.sample_rate = head, stream.layout.name, 48000
        channels, pre_skip = head[9], int.from_bytes(head[10:12], "little")
        frames = [f for p in file.demux(stream) if p.size for f in decoder.decode(av.Packet(bytes(p)))]
        assert frames[0].format.name == "s16"
        samples = np.concatenate([f.to_ndarray().reshape(-1, channels) for f in frames]) / 32768
    # libavcodec's wrapper drops the pre-skip; should another version not, this says so.
    assert (len(samples) + pre_skip) % 960 == 0, (len(samples), pre_skip)
    return samples


def sndfile(samples, rate, format, subtype):
    """A file made by libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    manifest, references = [], {}

    def keep(name, data, reference, rate, about, tolerance=2, sound=None):
        (OUT / name).write_bytes(data)
        ints = to_i16(reference)[:sound]
        # Lossless formats have the same samples: they are kept once.
        samples = references.setdefault(ints.tobytes(), f"{name}.i16.gz")
        (OUT / samples).write_bytes(gzip.compress(ints.tobytes(), mtime=0))
        manifest.append(
            {
                "file": name,
                "samples": samples,
                "rate": rate,
                "channels": ints.shape[1],
                "frames": ints.shape[0],
                # How much the encoder was given, where the file says so; ffmpeg leaves padding at the end of some.
                "exact": sound is not None,
                "tolerance": tolerance,  # of 32768
                "about": about,
            }
        )

    # Lossless and telephone formats, by libsndfile.
    for name, rate, channels, format, subtype in [
        ("u8.wav", 8000, 1, "WAV", "PCM_U8"),
        ("s16-stereo.wav", 16000, 2, "WAV", "PCM_16"),
        ("s24-extensible.wav", 11025, 1, "WAVEX", "PCM_24"),
        ("s32.wav", 8000, 1, "WAV", "PCM_32"),
        ("f32.wav", 11025, 1, "WAV", "FLOAT"),
        ("f64.wav", 8000, 1, "WAV", "DOUBLE"),
        ("alaw.wav", 8000, 1, "WAV", "ALAW"),
        ("ulaw.wav", 8000, 1, "WAV", "ULAW"),
        ("ima-adpcm.wav", 8000, 1, "WAV", "IMA_ADPCM"),
        ("rf64.wav", 8000, 1, "RF64", "PCM_16"),
        ("s16.flac", 22050, 2, "FLAC", "PCM_16"),
        ("s16.aiff", 8000, 1, "AIFF", "PCM_16"),
        ("s16.caf", 8000, 1, "CAF", "PCM_16"),
    ]:
        data = sndfile(signal(rate, channels), rate, format, subtype)
        reference, _ = soundfile.read(io.BytesIO(data), always_2d=True)
        # symphonia rounds ADPCM's steps once instead of thrice, which adds up to 56 dB under full scale.
        tolerance = 64 if subtype == "IMA_ADPCM" else 2
        keep(name, data, reference, rate, f"libsndfile, {format} {subtype}", tolerance, len(reference))

    # Lossy formats and the containers of film, by ffmpeg, which also is the reference: its skipping of encoder delay is
    # what players do. Tolerances: two decoders of one lossy codec differ by rounding.
    voice = {"application": "voip", "frame_duration": "20"}
    for name, container, codec, rate, channels, options, bit_rate, tolerance in [
        ("lame.mp3", "mp3", "libmp3lame", 22050, 1, None, 32000, 4),
        ("lame-stereo.mp3", "mp3", "libmp3lame", 32000, 2, None, 96000, 4),
        ("silk.opus", "ogg", "libopus", 16000, 1, voice, 12000, 4),
        ("hybrid.opus", "ogg", "libopus", 48000, 1, voice, 26000, 4),
        ("celt-stereo.opus", "ogg", "libopus", 48000, 2, {"application": "audio"}, 64000, 4),
        ("opus.webm", "webm", "libopus", 48000, 1, {"application": "audio"}, 48000, 4),
        ("aac.m4a", "ipod", "aac", 22050, 1, None, 32000, 4),
        ("aac-stereo.mp4", "mp4", "aac", 44100, 2, None, 64000, 4),
        ("aac.mov", "mov", "aac", 16000, 1, None, 32000, 4),
        ("alac.m4a", "ipod", "alac", 11025, 1, None, None, 1),
        ("alac.caf", "caf", "alac", 11025, 1, None, None, 1),
        ("flac.mkv", "matroska", "flac", 11025, 1, None, None, 1),
        ("opus.mp4", "mp4", "libopus", 48000, 1, voice, 24000, 4),
        ("adts.aac", "adts", "aac", 22050, 1, None, 32000, 4),
        ("flac.ogg", "ogg", "flac", 11025, 1, None, None, 1),
    ]:
        data = encode(container, codec, signal(rate, channels), rate, options=options, bit_rate=bit_rate)
        if codec == "libopus":
            reference, decoded_rate = decode_opus(data), 48000
        elif codec in ("alac", "flac"):
            # Lossless.
            reference, decoded_rate = to_i16(signal(rate, channels)) / 32768, rate
        else:
            reference, decoded_rate = decode(data)
        # ADTS has no place to say where the sound begins or ends; WebM's is not read to the end by symphonia.
        sound = None if container in ("adts", "webm") else int(decoded_rate * SECONDS)
        keep(name, data, reference, decoded_rate, f"ffmpeg, {codec} in {container}", tolerance, sound)

    # ffmpeg's own Vorbis encoder is an experiment; libsndfile has the real one.
    vorbis = sndfile(signal(22050, 1), 22050, "OGG", "VORBIS")
    reference, rate = soundfile.read(io.BytesIO(vorbis), always_2d=True)
    keep("vorbis.ogg", vorbis, reference, rate, "libsndfile, Vorbis", 4, len(reference))
    vorbis = rewrap(vorbis, "matroska")
    reference, rate = decode(vorbis)
    keep("vorbis.mkv", vorbis, reference, rate, "libsndfile, Vorbis, wrapped by ffmpeg", 4)

    (OUT / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    total = sum(f.stat().st_size for f in OUT.iterdir())
    for entry in manifest:
        print(f"{entry['file']:20} {entry['rate']:6} Hz {entry['channels']} ch {entry['frames']:6} frames "
              f"{(OUT / entry['file']).stat().st_size:6} bytes")
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
