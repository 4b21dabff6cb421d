"""What a run found, as a JSON file that later runs of other steps are added to, and as text for people."""

import json
import pathlib
import platform
import subprocess


def machine() -> dict:
    """GPU, driver and processor."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, check=False, capture_output=True, text=True, timeout=30)
        gpu = told.stdout.strip() or told.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        gpu = f"nvidia-smi: {error}"
    models = (line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {"gpu": gpu, "cpu": next(models, platform.machine()), "kernel": platform.release(), "python": platform.python_version()}


def read(file: pathlib.Path, fresh: dict) -> dict:
    """The report so far of the same program on the same machine at the same scale; what differs is told, and begins anew."""
    if not file.exists():
        return fresh | {"steps": {}}
    report = json.loads(file.read_text())
    differs = [name for name, value in fresh.items() if name != "began" and report.get(name) != value]
    if differs:
        print(f"{file} is of another run ({', '.join(differs)} differ): it is begun anew")
        return fresh | {"steps": {}}
    return report


def roofs(report: dict) -> dict:
    """What the machine was found to be able to do."""
    figures = report["steps"].get("roofs", {}).get("figures", [])
    return next((figure["roofs"] for figure in figures if "roofs" in figure), {})


def write(folder: pathlib.Path, report: dict) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = as_text(report)
    (folder / "report.txt").write_text(text)
    return text


def as_text(report: dict) -> str:
    lines = [f"program   {' '.join(report['program']['version'].split())}", f"sources   {report['program']['sources']}",
             f"gpu       {report['machine']['gpu']}", f"cpu       {report['machine']['cpu']}",
             f"asked     {report['scale']} scale on {report['device']}, begun {report['began']}", f"command   {report['command']}", ""]
    if report["device"] != "cuda":
        lines += ["A dry run: no figure here says anything of a GPU.", ""]
    for name, step in report["steps"].items():
        lines.append(f"{name}: {step['status']}, {step['seconds']:.0f} s")
        lines += [f"  {_figure(figure)}" for figure in step["figures"]]
        if step["status"] not in ("ok", NOT_CARRIED):
            lines += ["  stderr ends with:", *(f"  | {line}" for line in step["stderr_tail"].splitlines()[-25:])]
        lines.append("")
    return "\n".join(lines)


NOT_CARRIED = "not carried"


def _figure(figure: dict) -> str:
    value = figure["value"]
    text = f"{figure['what']}: {value if isinstance(value, str) else format(value, '.4g')} {figure['unit']}".rstrip()
    if "share_of_roof" in figure:
        text += f"; {figure['share_of_roof']:.1%} of the roof"
    peer = figure.get("peer")
    if isinstance(peer, str):
        text += f"; {peer}"
    elif peer is not None and not isinstance(value, str):
        times = peer / value if figure.get("less_is_better") else value / peer
        text += f"; {figure.get('peer_is', 'the peer')} {peer:.4g}: {times:.2f} times as fast"
    if figure.get("wanted"):
        text += f"  [wanted: {figure['wanted']}]"
    return text
