"""Results of train_dbn, put together from what the ends of its stages wrote, and the tables on the screen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ising import Estimate
from physgen.classification import ErrorRate, p_value

STAGES = {"pretraining": "pre-training", "updown": "up-down", "finetuning": "fine-tuning"}


def summary(out: Path, rows: Mapping[str, int]) -> dict[str, Any]:
    """Everything that the ends of stages wrote, as rows of one table.

    Arguments:
        out: Folder of the results.
        rows: How many for training, validation and test.
    """
    paths = {name: out / f"{name}.json" for name in STAGES}
    found = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    results: dict[str, Any] = {"rows": dict(rows)}
    for quantity in ("bound", "log_z"):
        results[quantity] = {STAGES[name]: value[quantity] for name, value in found.items()}
    if "finetuning" in found:
        results["test"] = errors(found)
        pair = ("updown" if "updown" in found else "pretraining"), "finetuning"
        weights = (safetensors.torch.load_file(out / f"{name}.safetensors") for name in pair)
        results["changed_by_finetuning"] = changes(*weights, *(found[name] for name in pair))
    return results


def errors(found: Mapping[str, Any]) -> dict[str, Any]:
    """Errors on test rows of the baselines and of the net, each tested against the better baseline."""
    baselines = found["pretraining"]["baselines"]
    rows = {f"logistic regression, {name}": value for name, value in baselines.items()}
    rows |= {f"DBN after {STAGES[name]}": value for name, value in found.items()}
    right = {name: torch.tensor(value["right"]) for name, value in rows.items()}
    reference = right["logistic regression, RBM features"]
    results = {}
    for name, each in right.items():
        error = ErrorRate(int((~each).sum()), len(each))
        results[name] = {
            "wrong": error.wrong,
            "rate": error.rate,
            "interval_95": error.interval(1.96),
            "p_value_against_rbm_features": p_value(each, reference),
        }
    return results


def changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], earlier: Mapping, later: Mapping
) -> dict[str, Any]:
    """What back-propagation did to the weights on the way up, and what it cost the generative model.

    Arguments:
        before, after: Weights by name.
        earlier, later: What was measured with them.
    """
    top = max(name for name in before if name.startswith("machines") and name.endswith(".W"))
    features = {name: (before[name], after[name]) for name in before if name.endswith(".weight")}
    features[top] = before[top].T, after[top].T
    moved = {}
    for name, (old, new) in features.items():
        cosine = cosine_similarity(old, new, dim=-1)
        moved[name] = {
            "relative_change": float((new - old).norm() / old.norm()),
            "norm_before": float(old.norm()),
            "norm_after": float(new.norm()),
            "median_cosine_of_features": float(cosine.median()),
            "least_cosine_of_features": float(cosine.min()),
        }
    return {
        "weights": moved,
        "bound_lost": earlier["bound"]["mean"] - later["bound"]["mean"],
        "train_wrong": [earlier["train_wrong"], later["train_wrong"]],
    }


def lines(results: Mapping[str, Any]) -> list[str]:
    """The tables on the screen."""
    text = ["rows: " + ", ".join(f"{n} for {name}" for name, n in results["rows"].items())]
    if "test" in results:
        text += ["", f"{'wrong on test rows':43}  {'rate':>6}  {'95 % interval':>14}  p against RBM features"]
        for name, value in results["test"].items():
            low, high = (100 * x for x in value["interval_95"])
            text.append(
                f"{name:36}  {value['wrong']:5d}  {100 * value['rate']:4.1f} %  {low:4.1f} to {high:4.1f} %"
                f"  {value['p_value_against_rbm_features']:.2g}"
            )
    text += [
        "",
        f"{'bound on log p(x), test rows':36}  nats (error over rows), log Z (its error)",
    ]
    for name, value in results["bound"].items():
        bound, log_z = (Estimate(v["mean"], v["error"]) for v in (value, results["log_z"][name]))
        text.append(f"{'after ' + name:36}  {bound}  {log_z}")
    if "changed_by_finetuning" in results:
        changed = results["changed_by_finetuning"]
        text += ["", f"fine-tuning cost {changed['bound_lost']:.1f} nats of the bound and changed"]
        text += [
            f"  {name:34}  by {100 * value['relative_change']:.0f} %, norm {value['norm_before']:.1f} to "
            f"{value['norm_after']:.1f}, cosine of features {value['median_cosine_of_features']:.3f}, least "
            f"{value['least_cosine_of_features']:.3f}"
            for name, value in changed["weights"].items()
        ]
    return text
