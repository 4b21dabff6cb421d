"""Muon for the matrices and convolutions, AdamW for the rest.

Muon (Jordan 2024, with the scale of Liu 2025, arXiv 2502.16982) takes steps along the nearest orthogonal matrix of the momentum. torch has it
for matrices only; here a convolution counts as the matrix [outputs, inputs x height x width]. In short runs here it learnt sooner than
AdamW alone.
"""

import torch


def orthogonal(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """The nearest orthogonal matrix, about: Newton and Schulz's iteration with Jordan's coefficients."""
    x = matrix / (matrix.norm() + 1e-7)
    turned = x.size(0) > x.size(1)
    x = x.T if turned else x
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if turned else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                held = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(held, group["momentum"]).flatten(1)
                # As large as AdamW's steps are, so that one rate serves both.
                scale = 0.2 * max(ahead.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(orthogonal(ahead).view_as(parameter), alpha=group["lr"] * scale)


class Both:
    """The two as one, for modules; the rate of each step comes from outside."""

    def __init__(self, modules, clip: float = 1.0):
        self.trained = [parameter for module in modules for parameter in module.parameters()]
        tables = {id(part.weight) for module in modules for part in module.modules() if isinstance(part, torch.nn.Embedding)}
        matrices = [p for p in self.trained if p.dim() > 1 and id(p) not in tables]
        others = [p for p in self.trained if p.dim() == 1 or id(p) in tables]
        self.parts, self.clip = (Muon(matrices, 1e-3), torch.optim.AdamW(others, 1e-3, betas=(0.9, 0.99), weight_decay=0.0, fused=True)), clip

    def advance(self, rate: float):
        torch.nn.utils.clip_grad_norm_(self.trained, self.clip)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)
