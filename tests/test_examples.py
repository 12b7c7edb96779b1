"""The examples run on real models, when the corpus is there, and do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from corpus import shared_folder

import gateinfer as gi

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))


def run(script, *args):
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, args)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_voice_activity_finds_the_sentences(zoo):
    out = run("voice_activity.py", zoo("silero-vad").model, EXAMPLES / "speech.wav")
    found = [line.split() for line in out.splitlines()]
    assert 3 <= len(found) <= 20 and all(line[:2] == ["speech", "from"] for line in found)


def weights(name):
    path = shared_folder() / "zoo" / "weights" / name
    if not path.is_file():
        pytest.skip(f"the optional corpus has no zoo/weights/{name}")
    return path


def test_voice_activity_from_plain_weights(zoo):
    """An earlier training of the same network: about the same sentences."""
    models = zoo("silero-vad").model, weights("silero-vad-16k.safetensors")
    found = [run("voice_activity.py", model, EXAMPLES / "speech.wav").splitlines() for model in models]
    times = [np.array([[float(line.split()[i]) for i in (2, 5)] for line in lines]) for lines in found]
    assert times[0].shape == times[1].shape
    np.testing.assert_allclose(*times, atol=0.3)


def test_plain_weights_hear_the_same_speech(zoo):
    """The file is an earlier training of the network in the zoo: other figures, but the same network all the same."""
    from voice_activity import build

    model = build(gi.load_arrays(weights("silero-vad-16k.safetensors")))
    case, stream = zoo("silero-vad"), model.stream()
    frames, expected = [], []
    for feeds, figures in case.calls():
        frames.append(feeds["input"].reshape(1, 576, 1))
        expected.append(figures["output"].item())
    got = [stream(frame).item() for frame in frames]
    assert np.corrcoef(got, expected)[0, 1] > 0.99
    gi.validate(model, frames[:5]).check()


def test_noise_suppression_lowers_pauses_more_than_speech(zoo, tmp_path):
    from gateinfer.audio import read_wav

    run("noise_suppression.py", zoo("gtcrn").model, EXAMPLES / "speech.wav", tmp_path / "clean.wav")
    noisy, _ = read_wav(EXAMPLES / "speech.wav")
    clean, rate = read_wav(tmp_path / "clean.wav")
    assert rate == 16000 and len(clean) == len(noisy)
    with wave.open(str(tmp_path / "clean.wav")) as file:
        assert file.getnframes() == len(noisy)
    loudness = np.array([np.square(noisy[i : i + 1600]).mean() for i in range(0, len(noisy) - 1600, 1600)])
    after = np.array([np.square(clean[i : i + 1600]).mean() for i in range(0, len(noisy) - 1600, 1600)])
    order = np.argsort(loudness)
    pauses, speech = order[: len(order) // 5], order[-len(order) // 5 :]
    kept_noise = after[pauses].sum() / loudness[pauses].sum()
    kept_speech = after[speech].sum() / loudness[speech].sum()
    assert kept_noise < 0.3 * kept_speech


def test_denoiser_hands_on_what_the_model_says(zoo):
    """With the identity in place of the model, overlap-add gives the input back."""
    from noise_suppression import HOP, Denoiser

    model = gi.load(str(zoo("gtcrn").model))
    denoiser = Denoiser(model)
    denoiser._stream = lambda mix: mix
    samples = np.random.default_rng(0).normal(size=20 * HOP).astype(np.float32)
    out = np.concatenate([denoiser(hop) for hop in samples.reshape(-1, HOP)])
    np.testing.assert_allclose(out[2 * HOP :], samples[HOP:-HOP], atol=1e-5)


def test_text_generation_feeds_back(zoo, tmp_path):
    vocabulary = {chr(33 + i): i for i in range(100)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    args = (zoo("charrnn").model, tmp_path / "vocab.json", "--prompt", "ABC", "--length", "40")
    out = run("text_generation.py", *args)
    assert out.startswith("ABC") and len(out.rstrip("\n")) == 43
    assert out == run("text_generation.py", *args)
    assert out != run("text_generation.py", *args, "--seed", "1")


def test_streamflow_equals_the_reference_series(zoo, tmp_path):
    from streamflow import load, simulate

    ref = np.load(zoo("noaa-streamflow").folder / "ref.npz")
    flow = simulate(gi.load(str(zoo("noaa-streamflow").model)), ref["in/x"][:, 0, 0])
    np.testing.assert_allclose(flow, ref["out/y"].ravel(), rtol=1e-3, atol=1e-4)
    trained = simulate(load(str(weights("noaa-streamflow.pt"))), ref["in/x"][:, 0, 0])
    np.testing.assert_allclose(trained, flow, rtol=1e-3, atol=1e-4)
    np.savez(tmp_path / "forcings.npz", x=ref["in/x"][:48, 0, 0])
    assert len(run("streamflow.py", zoo("noaa-streamflow").model, tmp_path / "forcings.npz").splitlines()) == 2


def test_grapheme_to_phoneme_spells_words():
    out = run("grapheme_to_phoneme.py", weights("g2p-en.npz"), "hello", "recurrent")
    assert out.splitlines() == ["hello: HH EH1 L OW0", "recurrent: R IH0 K ER1 AH0 N T"]


@pytest.mark.parametrize("script", sorted(p.name for p in EXAMPLES.glob("*.py") if p.name != "make_speech.py"))
def test_help_teaches(script):
    out = run(script, "--help")
    assert "python examples/" in out and len(out) > 300
