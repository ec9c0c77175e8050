"""Each phase of up-down against its delta rule, written out, and against exact gradients of a tiny net."""

import torch

from physgen.wake_sleep import UpDown
from tests.physgen.test_dbn import net, states


def gradients(dbn, loss):
    parameters = dict(dbn.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


def phases(dbn, rows, k=2, seed=0):
    """Draws of one call of the loss, repeated with its generator."""
    loss = UpDown(dbn, k, seed=seed)
    generator = torch.Generator()
    generator.set_state(loss.generator.get_state())
    x, y = dbn.parts(rows)
    layers = dbn.up(x, generator)
    v = layers[-1] if y is None else torch.cat([layers[-1], y], -1)
    chains = dbn.top.gibbs(v, k, generator)
    return loss, layers, v, chains, dbn.down(chains[:, : layers[-1].shape[-1]], generator)


def test_the_gradient_is_three_delta_rules():
    """(x - p) h of the generative weights, (h - q) x of the recognition weights, CD on top."""
    dbn = net("spin", (3, 2, 3), labels=2)
    rows = torch.cat([states("spin"), torch.eye(2).double().repeat(8, 1)], -1)
    loss, layers, v, chains, dream = phases(dbn, rows)
    found = gradients(dbn, loss(rows)[0])
    n = len(rows)
    for k in range(2):
        law = dbn.machines[k].distribution()
        rest = law.hidden_units.mean(torch.zeros_like(law.hidden_bias))
        wrong = layers[k] - law.visible_units.mean(law.visible_field(layers[k + 1]))
        torch.testing.assert_close(found[f"machines.{k}.W"], -wrong.T @ (layers[k + 1] - rest) / n)
        torch.testing.assert_close(found[f"machines.{k}.b"], -wrong.mean(0))
        assert found[f"machines.{k}.c"] is None or not found[f"machines.{k}.c"].any()
        missed = dream[k + 1] - dbn.recognition[k](dream[k]).sigmoid()
        torch.testing.assert_close(found[f"recognition.{k}.weight"], -missed.T @ dream[k] / n)
        torch.testing.assert_close(found[f"recognition.{k}.bias"], -missed.mean(0))
    law = dbn.top.distribution()
    mu = law.visible_units.mean(dbn.top.base)
    up, down = (law.hidden_units.mean(law.hidden_field(each)) - 0.5 for each in (v, chains))
    torch.testing.assert_close(found["machines.2.W"], -((v - mu).T @ up - (chains - mu).T @ down) / n)
    label = UpDown(dbn, 2, label_weight=0.5)(rows)[1]["label"]
    log_p = dbn.scores(layers[-1]).log_softmax(-1)
    torch.testing.assert_close(label, -0.5 * (log_p * v[:, -2:]).sum(-1).mean().detach())


def test_wake_is_the_gradient_of_the_bound():
    """Mean of 3000 batches against the enumerated bound: every generative weight within 4.5 sigma (1e-4)."""
    dbn = net("bernoulli", (3, 3))
    x, h = states("bernoulli"), states("bernoulli", 3)
    q = torch.stack([dbn.log_recognise([x, row.expand(16, -1)]) for row in h]).exp().detach()
    inside = torch.stack([dbn.log_generate([x, row.expand(16, -1)]) for row in h])
    exact = torch.autograd.grad(-(q * inside).sum(0).mean(), dbn.machines[0].W)[0]
    many = x.repeat(3000, 1)
    law, rest = dbn.machines[0].distribution(), 0.5
    layers = phases(dbn, many)[1]
    wrong = (many - law.visible_units.mean(law.visible_field(layers[1]))).detach()
    each = -torch.einsum("ni,nj->nij", wrong, layers[1] - rest).reshape(3000, 16, 4, 3).mean(1)
    z = (each.mean(0) - exact).abs() / (each.std(0) / 3000**0.5)
    assert z.max() < 4.5
    assert ((each.mean(0) + exact).abs() / (each.std(0) / 3000**0.5)).max() > 4.5  # the sign matters


def test_sleep_vanishes_where_recognition_is_exact():
    """From the tied start with the top at equilibrium, q is the true posterior: mean gradient zero."""
    dbn = net("bernoulli", (3, 4), layers=1)
    dbn.add_layer(states("bernoulli"))
    dream = dbn.down(dbn.top.sample(40_000))
    missed = (dream[1] - dbn.recognition[0](dream[0]).sigmoid()).detach()
    each = torch.einsum("ni,nj->nij", missed, dream[0])
    assert (each.mean(0).abs() / (each.std(0) / 200)).max() < 4.5  # 12 means, false alarm 1e-4
    with torch.no_grad():
        dbn.recognition[0].weight += 0.3
    missed = (dream[1] - dbn.recognition[0](dream[0]).sigmoid()).detach()
    each = torch.einsum("ni,nj->nij", missed, dream[0])
    assert (each.mean(0).abs() / (each.std(0) / 200)).max() > 4.5


def test_persistent_chains_go_on_from_call_to_call():
    """They start at the data, and the same state gives the same bits."""
    dbn, rows = net("bernoulli", (3, 3)), states("bernoulli")
    loss = UpDown(dbn, 1, persistent=7)
    loss(rows)
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    before, value = loss.chains, loss(rows)[0]
    assert loss.chains.shape == (7, 3)
    generator = torch.Generator()
    generator.set_state(state["generator"])
    dbn.up(rows, generator)
    assert torch.equal(loss.chains, dbn.top.gibbs(before, 1, generator))
    again = UpDown(dbn, 1, persistent=7, seed=9)
    again.load_state_dict(state)
    assert torch.equal(again.chains, before)
    assert torch.equal(again(rows)[0], value)
    assert torch.equal(again.chains, loss.chains)
    assert UpDown(dbn, 1).state_dict()["chains"] is None
