"""Restricted Boltzmann machines of this package, of others and of a careful user, as contestants.

Run as a file by the Python of an environment that holds the peers, or as a module by ours: it imports a
    package
only when a contestant of it is made. Each contestant has 0/1 units and offers ``train(n)``, n steps of 100
configurations, ``gibbs(n)``, n updates of 1000 chains, and ``update(v)``, one update of the given chains.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _peers import older_python, serve

BATCH, CHAINS, RATE = 100, 1000, 0.01


class _Loop:
    """Batches in turn, and chains for :meth:`gibbs`."""

    def __init__(self, plain, data, k, persistent):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.torch, self.k, self.persistent = torch, k, persistent
        self.data, self.at = torch.as_tensor(data), 0
        self.prepare(*(torch.as_tensor(x) for x in plain))
        self.chains = self.start(self.data[:CHAINS])

    def start(self, v):
        return v

    def batch(self):
        self.at = (self.at + BATCH) % (len(self.data) - BATCH)
        return self.data[self.at : self.at + BATCH]

    def train(self, n):
        for _ in range(n):
            self.step(self.batch())
        return n * BATCH

    def gibbs(self, n):
        for _ in range(n):
            self.chains = self.advance(self.chains)
        return n * CHAINS

    def update(self, v):
        return np.asarray(self.visible(self.advance(self.start(self.torch.as_tensor(v)))))

    def visible(self, chains):
        return chains


class Ours(_Loop):
    """The losses of physgen.energy with stochastic gradient descent."""

    def prepare(self, W, b, c):
        from physgen.energy import ContrastiveDivergence, PersistentCD
        from physgen.models.rbm import RBM
        from physgen.train import gradient_step

        rbm = RBM((len(b),), hidden=len(c), visible="bernoulli").centre(self.data)
        with self.torch.no_grad():
            rbm.W.copy_(W)
            rbm.b.copy_(b + W.sum(1) / 2)
            rbm.c.copy_(c + rbm.base.sigmoid() @ W)
        cd = ContrastiveDivergence(rbm, self.k)
        loss = PersistentCD(rbm, self.data, self.k, chains=BATCH) if self.persistent else cd
        self.rbm, self.step = rbm, gradient_step(loss, self.torch.optim.SGD(rbm.parameters(), RATE))

    def advance(self, v):
        with self.torch.no_grad():
            return self.rbm.gibbs(v)


class Naive(_Loop):
    """What a user writes in torch: matrix products, sigmoid, bernoulli, gradients by hand."""

    def prepare(self, W, b, c):
        self.W, self.b, self.c = W, b, c
        self.persisting = self.data[:BATCH]

    def step(self, v):
        torch = self.torch
        h = torch.sigmoid(v @ self.W + self.c)
        x = self.persisting if self.persistent else v
        for _ in range(self.k):
            x = self.advance(x)
        y = torch.sigmoid(x @ self.W + self.c)
        self.persisting = x
        self.W += RATE * (v.T @ h - x.T @ y) / BATCH
        self.b += RATE * (v - x).mean(0)
        self.c += RATE * (h - y).mean(0)

    def advance(self, v):
        torch = self.torch
        h = torch.bernoulli(torch.sigmoid(v @ self.W + self.c))
        return torch.bernoulli(torch.sigmoid(h @ self.W.T + self.b))


class Rbms(_Loop):
    """The body of the training loop of rbms, with its centred gradient, which is its default."""

    def prepare(self, W, b, c):
        older_python()
        from rbms.bernoulli_bernoulli.classes import BBRBM
        from rbms.sampler.cd import CD
        from rbms.sampler.pcd import PCD

        self.rbm = BBRBM(W, b, c)
        first = self.rbm.init_chains(BATCH, start_v=self.data[:BATCH])
        self.sampler = PCD(self.rbm, first, self.k) if self.persistent else CD(self.rbm, self.k)
        self.sgd = self.torch.optim.SGD(self.rbm.parameters(), RATE, maximize=True)
        self.weights = self.torch.ones(BATCH)

    def start(self, v):
        return self.rbm.init_chains(len(v), start_v=v)

    def step(self, v):
        self.sgd.zero_grad(set_to_none=False)
        data = self.rbm.init_chains(num_samples=BATCH, weights=self.weights, start_v=v)
        self.rbm.compute_gradient(data=data, chains=self.sampler.get_conf_grad(batch=v), centered=True)
        self.sgd.step()
        self.sampler.post_grad_update(params=self.rbm)

    def advance(self, chains):
        return self.rbm.sample_state(chains=chains, n_steps=1, beta=1.0)

    def visible(self, chains):
        return chains["visible"]


class Sklearn(_Loop):
    """BernoulliRBM: persistent chains of one update only, float32."""

    def prepare(self, W, b, c):
        from sklearn.neural_network import BernoulliRBM

        model = BernoulliRBM(n_components=len(c), batch_size=BATCH, learning_rate=RATE, random_state=0)
        model.partial_fit(self.data[:BATCH].numpy())
        model.components_ = np.ascontiguousarray(W.T.numpy())
        model.intercept_visible_, model.intercept_hidden_ = b.numpy(), c.numpy()
        self.model = model

    def step(self, v):
        self.model.partial_fit(v.numpy())

    def advance(self, v):
        return self.model.gibbs(v if isinstance(v, np.ndarray) else v.numpy()).astype(np.float32)


class Products(_Loop):
    """The matrix products of a step and nothing else, by torch."""

    def prepare(self, W, b, c):  # noqa: ARG002
        self.W, self.h = W, (self.torch.rand(CHAINS, len(c)) < 0.5).float()

    def step(self, v):
        h = self.h[:BATCH]
        for _ in range(self.k):
            _ = v @ self.W, h @ self.W.T
        _ = v @ self.W, v.T @ h, v.T @ h

    def advance(self, v):
        _ = v @ self.W, self.h @ self.W.T
        return v


class _Learner:
    """A peer with its own defaults, for so many CPU seconds; gives W, b, c back."""

    def __init__(self, data, hidden):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.torch, self.data = torch, torch.as_tensor(data)
        self.prepare(hidden)

    def learn(self, seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            self.step(self.torch.randint(len(self.data), (self.batch,)))
        return [np.asarray(x) for x in self.plain()]


class RbmsDefaults(_Learner):
    """Batches of 2000, 2000 persistent chains with 100 updates, rate 0.01, centred gradient."""

    batch = 2000

    def prepare(self, hidden):
        older_python()
        from rbms.bernoulli_bernoulli.classes import BBRBM
        from rbms.bernoulli_bernoulli.implement import _init_parameters
        from rbms.sampler.pcd import PCD

        b, c, W = _init_parameters(hidden, self.data, self.data.device, self.data.dtype)
        self.rbm = BBRBM(W, b, c)
        self.sampler = PCD(self.rbm, self.rbm.init_chains(2000), 100)
        self.sgd = self.torch.optim.SGD(self.rbm.parameters(), 0.01, maximize=True)

    def step(self, rows):
        self.sgd.zero_grad(set_to_none=False)
        weights = self.torch.ones(len(rows))
        data = self.rbm.init_chains(len(rows), weights=weights, start_v=self.data[rows])
        chains = self.sampler.get_conf_grad(batch=data["visible"])
        self.rbm.compute_gradient(data=data, chains=chains, centered=True)
        self.sgd.step()
        self.sampler.post_grad_update(params=self.rbm)

    def plain(self):
        return self.rbm.weight_matrix, self.rbm.vbias, self.rbm.hbias


class SklearnDefaults(_Learner):
    """Batches of 10, rate 0.1."""

    batch = 10

    def prepare(self, hidden):
        from sklearn.neural_network import BernoulliRBM

        self.model = BernoulliRBM(n_components=hidden, random_state=0)

    def step(self, rows):
        self.model.partial_fit(self.data[rows].numpy())

    def plain(self):
        return self.model.components_.T, self.model.intercept_visible_, self.model.intercept_hidden_


KINDS = {"ours": Ours, "torch loop": Naive, "rbms": Rbms, "scikit-learn": Sklearn, "products": Products}
LEARNERS = {"rbms": RbmsDefaults, "scikit-learn": SklearnDefaults}

if __name__ == "__main__":
    serve(LEARNERS if "learn" in sys.argv else KINDS)
