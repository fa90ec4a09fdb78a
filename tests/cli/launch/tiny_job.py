"""A job that counts: what a real one does around its training, without a library, so that tests of launchers are fast.

Words: steps=N (a tenth of a second each), fails_at=N (the first time only), status=N (which it then ends with),
holds_at=N (it stays at that step until it is warned, or a file named go is in its folder: no test has to be faster than
a job), saves_for=N (seconds), and hydra.run.dir=FOLDER as every job gets it. It goes on at the step that was saved,
saves and ends with 75 on a warning, and leaves its figure like a run.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    words = dict(word.split("=", maxsplit=1) for word in sys.argv[1:])
    folder = Path(words["hydra.run.dir"].strip("'"))
    rank = os.environ["SLURM_PROCID"] if "SLURM_PROCID" in os.environ else "0"
    own = folder if rank == "0" else folder / ".ranks" / rank
    own.mkdir(parents=True, exist_ok=True)
    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda got, frame: stops.append(got))
    saved = own / "saved.json"
    step = json.loads(saved.read_text())["step"] if saved.exists() else 0
    print(f"rank {rank} starts at step {step}", flush=True)
    while step < int(words["steps"]):
        time.sleep(0.1)
        step += 1
        (own / "step").write_text(str(step))
        if step == int(words.get("fails_at", -1)) and not (own / "failed").exists():
            (own / "failed").touch()
            print("something is broken", file=sys.stderr)
            return int(words.get("status", 1))
        while step == int(words.get("holds_at", -1)) and not stops and not (folder / "go").exists():
            time.sleep(0.02)
        if stops:
            time.sleep(float(words.get("saves_for", 0)))
            saved.write_text(json.dumps({"step": step}))
            print(f"rank {rank} saved at step {step} after {signal.Signals(stops[0]).name}", flush=True)
            return 130 if stops[0] == signal.SIGINT else 75
    if rank == "0":
        figure = {"version": 1, "name": "all", "value": step / 1000, "state": "finished"}
        (folder / "objective.json").write_text(json.dumps(figure))
    print(f"rank {rank} of {os.environ.get('SLURM_STEP_NUM_TASKS', '1')} finished", flush=True)
    return 0


sys.exit(main())
