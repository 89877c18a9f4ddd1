"""Networks that see, solve and remember: operators on spectra, reconstruction, long convolutions, hypercomplex nets.

Each after its paper, small, and written as its authors write it, with torch's own complex numbers.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit.nn as fnn
from fusekit.nn import speechbrain_quaternion as q_ops

COMPLEX = torch.complex64


class SpectralConv2d(nn.Module):
    """The spectral convolution of a Fourier neural operator (Li et al. 2021): few modes, a matrix for each."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        weights = [nn.Parameter(torch.randn(width, width, modes, modes, dtype=COMPLEX) / width) for _ in range(2)]
        self.weights1, self.weights2 = weights

    def forward(self, x: Tensor) -> Tensor:
        m = self.modes
        z = torch.fft.rfft2(x)
        out = torch.zeros(x.shape[0], x.shape[1], x.size(-2), x.size(-1) // 2 + 1, dtype=COMPLEX, device=x.device)
        out[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", z[:, :, :m, :m], self.weights1)
        out[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", z[:, :, -m:, :m], self.weights2)
        return torch.fft.irfft2(out, s=(x.size(-2), x.size(-1)))


class Fno2d(nn.Module):
    """A Fourier neural operator in two dimensions."""

    def __init__(self, width: int = 16, modes: int = 8) -> None:
        super().__init__()
        self.lift, self.head = nn.Conv2d(1, width, 1), nn.Conv2d(width, 1, 1)
        self.spectral = nn.ModuleList(SpectralConv2d(width, modes) for _ in range(3))
        self.local = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        for spectral, local in zip(self.spectral, self.local, strict=True):
            x = F.gelu(spectral(x) + local(x))
        return self.head(x)


class Fno1d(nn.Module):
    """A Fourier neural operator in one dimension, its spectrum assigned by a slice."""

    def __init__(self, width: int = 32, modes: int = 16) -> None:
        super().__init__()
        self.modes = modes
        self.lift, self.head = nn.Conv1d(2, width, 1), nn.Conv1d(width, 1, 1)
        self.weight = nn.Parameter(torch.randn(width, width, modes, dtype=COMPLEX) / width)
        self.local = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        z = torch.fft.rfft(x)
        out = torch.zeros_like(z)
        out[:, :, : self.modes] = torch.einsum("bix,iox->box", z[:, :, : self.modes], self.weight)
        return self.head(F.gelu(torch.fft.irfft(out, n=x.size(-1)) + self.local(x)))


class GlobalFilter(nn.Module):
    """The global filter layer of GFNet (Rao et al. 2021)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.complex_weight = nn.Parameter(torch.randn(side, side // 2 + 1, width, 2) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        n, count, width = x.shape
        z = torch.fft.rfft2(x.view(n, self.side, self.side, width), dim=(1, 2), norm="ortho")
        z = z * torch.view_as_complex(self.complex_weight)
        return torch.fft.irfft2(z, s=(self.side, self.side), dim=(1, 2), norm="ortho").reshape(n, count, width)


class GfNet(nn.Module):
    """GFNet: patches, blocks of a global filter and an MLP."""

    def __init__(self, width: int = 192, side: int = 14, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.filters = nn.ModuleList(GlobalFilter(width, side) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for i, (layer, mlp) in enumerate(zip(self.filters, self.mlps, strict=True)):
            x = x + mlp(self.norms[2 * i + 1](layer(self.norms[2 * i](x))))
        return self.head(x.mean(1))


class FNet(nn.Module):
    """FNet (Lee-Thorp et al. 2021): the real part of a transform over tokens and features in place of attention."""

    def __init__(self, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for i, mlp in enumerate(self.mlps):
            x = self.norms[2 * i](x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
            x = self.norms[2 * i + 1](x + mlp(x))
        return x


class Afno(nn.Module):
    """An adaptive Fourier neural operator block (Guibas et al. 2022): a complex MLP in blocks, softly shrunk."""

    def __init__(self, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        size = width // blocks
        self.blocks = blocks
        self.w1, self.w2 = (nn.Parameter(0.1 * torch.randn(2, blocks, size, size)) for _ in range(2))
        self.b1, self.b2 = (nn.Parameter(0.1 * torch.randn(2, blocks, size)) for _ in range(2))
        self.patch, self.head = nn.Conv2d(3, width, 4, 4), nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        z = torch.fft.rfft2(x, dim=(1, 2), norm="ortho").reshape(n, h, w // 2 + 1, self.blocks, -1)
        w1, w2, b1, b2 = self.w1, self.w2, self.b1, self.b2
        mul = lambda a, m: torch.einsum("...bi,bio->...bo", a, m)  # noqa: E731
        re = F.relu(mul(z.real, w1[0]) - mul(z.imag, w1[1]) + b1[0])
        im = F.relu(mul(z.imag, w1[0]) + mul(z.real, w1[1]) + b1[1])
        out = torch.stack([mul(re, w2[0]) - mul(im, w2[1]) + b2[0], mul(im, w2[0]) + mul(re, w2[1]) + b2[1]], -1)
        z = torch.view_as_complex(F.softshrink(out, 0.01)).reshape(n, h, w // 2 + 1, c)
        return self.head((torch.fft.irfft2(z, s=(h, w), dim=(1, 2), norm="ortho") + x).permute(0, 3, 1, 2))


class FourierUnit(nn.Module):
    """The Fourier unit of fast Fourier convolution (Chi et al. 2020), as in LaMa: parts as channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2 * width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        z = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        z = torch.stack((z.real, z.imag), dim=-1).permute(0, 1, 4, 2, 3).contiguous()
        z = z.view((batch, -1, *z.size()[3:]))
        z = F.relu(self.bn(self.conv(z)))
        z = z.view((batch, -1, 2, *z.size()[2:])).permute(0, 1, 3, 4, 2).contiguous()
        return torch.fft.irfftn(torch.complex(z[..., 0], z[..., 1]), s=x.shape[-2:], dim=(-2, -1), norm="ortho")


class Ffc(nn.Module):
    """A block of LaMa (Suvorov et al. 2022): a local branch and a spectral one."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.local, self.unit = nn.Conv2d(width, width, 3, padding=1), FourierUnit(width)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return torch.sigmoid(self.head(x + F.relu(self.bn(self.local(x) + self.unit(x)))))


def fft2c(x: Tensor) -> Tensor:
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


def ifft2c(x: Tensor) -> Tensor:
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))


class Refine(nn.Module):
    """Real convolutions on the two parts of a complex image."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(width, 2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.view_as_real(x).squeeze(1).permute(0, 3, 1, 2)
        return torch.view_as_complex(self.net(parts).permute(0, 2, 3, 1).contiguous()).unsqueeze(1)


class VarNet(nn.Module):
    """An end-to-end variational network (Sriram et al. 2020): unrolled, with coil sensitivities and a mask."""

    def __init__(self, steps: int = 3) -> None:
        super().__init__()
        self.nets = nn.ModuleList(Refine() for _ in range(steps))
        self.eta = nn.Parameter(torch.ones(steps))

    def forward(self, kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        k = kspace
        for eta, net in zip(self.eta, self.nets, strict=True):
            consistent = torch.where(mask, k - kspace, torch.zeros(1, 1, 1, 1, dtype=k.dtype)) * eta
            image = (ifft2c(k) * maps.conj()).sum(1, keepdim=True)
            k = k - consistent - fft2c(net(image) * maps)
        return torch.sqrt((ifft2c(k).abs() ** 2).sum(1))


class Modl(nn.Module):
    """MoDL (Aggarwal et al. 2019): a denoiser and data consistency by conjugate gradients, unrolled."""

    def __init__(self, steps: int = 2, inner: int = 4) -> None:
        super().__init__()
        self.net, self.inner, self.steps = Refine(), inner, steps
        self.lam = nn.Parameter(torch.tensor(0.05))

    def forward(self, kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        def normal(x: Tensor) -> Tensor:
            k = fft2c(maps * x) * mask
            return (ifft2c(k) * maps.conj()).sum(1, keepdim=True) + self.lam * x

        start = (ifft2c(kspace * mask) * maps.conj()).sum(1, keepdim=True)
        x = start
        for _ in range(self.steps):
            x = self.solve(normal, start + self.lam * self.net(x))
        return x.abs()

    def solve(self, normal: Any, b: Tensor) -> Tensor:
        x = torch.zeros_like(b)
        r = p = b
        rr = (r.conj() * r).real.sum((-2, -1), keepdim=True)
        for _ in range(self.inner):
            ap = normal(p)
            alpha = rr / (p.conj() * ap).real.sum((-2, -1), keepdim=True)
            x, r = x + alpha * p, r - alpha * ap
            new = (r.conj() * r).real.sum((-2, -1), keepdim=True)
            p, rr = r + new / rr * p, new
        return x


class Diffractive(nn.Module):
    """Diffractive layers (Lin et al. 2018): angular spectra times a transfer function, learned phases between."""

    def __init__(self, side: int = 48, layers: int = 3) -> None:
        super().__init__()
        f = torch.fft.fftfreq(side, 8e-6)
        under = (1 / 532e-9) ** 2 - f[:, None] ** 2 - f**2
        self.register_buffer("transfer", torch.exp(1j * 2 * math.pi * 0.02 * torch.sqrt(under.double())).to(COMPLEX))
        self.phases = nn.Parameter(2 * math.pi * torch.rand(layers, side, side))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.sqrt(x).to(COMPLEX)
        for phase in self.phases:
            z = torch.fft.ifft2(torch.fft.fft2(z) * self.get_buffer("transfer")) * torch.exp(1j * phase)
        return z.abs() ** 2


class S4d(nn.Module):
    """A diagonal state space (Gu et al. 2022): a kernel of exponentials, by transforms of twice the length."""

    def __init__(self, width: int = 32, states: int = 16) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.view_as_real(torch.randn(width, states, dtype=COMPLEX)))
        self.log_dt = nn.Parameter(torch.rand(width) * 3 - 6)
        self.log_a = nn.Parameter(torch.log(0.5 * torch.ones(width, states)))
        self.a_im = nn.Parameter(math.pi * torch.arange(states).repeat(width, 1).float())
        self.d, self.out = nn.Parameter(torch.randn(width)), nn.Conv1d(width, 2 * width, 1)

    def forward(self, u: Tensor) -> Tensor:
        length = u.size(-1)
        dt, c, a = torch.exp(self.log_dt), torch.view_as_complex(self.c), -torch.exp(self.log_a) + 1j * self.a_im
        dta = a * dt.unsqueeze(-1)
        powers = torch.exp(dta.unsqueeze(-1) * torch.arange(length))
        k = 2 * torch.einsum("hn,hnl->hl", c * (torch.exp(dta) - 1.0) / a, powers).real
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(k, n=2 * length), n=2 * length)
        return F.glu(self.out(F.gelu(y[..., :length] + u * self.d.unsqueeze(-1))), 1)


class Hyena(nn.Module):
    """A Hyena operator (Poli et al. 2023): an implicit long filter between gates."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.short = nn.Conv1d(3 * width, 3 * width, 3, padding=2, groups=3 * width)
        self.filter = nn.Sequential(nn.Linear(5, 32), nn.SiLU(), nn.Linear(32, width))
        self.out, self.bias = nn.Linear(width, width), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        a, b, v = self.short(self.project(x).transpose(1, 2))[..., :length].chunk(3, 1)
        t = torch.arange(length) / length
        waves = torch.exp(2j * math.pi * t[:, None] * torch.arange(1, 3))
        h = self.filter(torch.cat([t[:, None], waves.real, waves.imag], -1)) * torch.exp(-3 * t)[:, None]
        u = a * v
        kernel = torch.fft.rfft(h.T, n=2 * length) / (2 * length)
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * kernel, n=2 * length, norm="forward")[..., :length]
        return self.out(((y + u * self.bias[:, None]) * b).transpose(1, 2))


class Rotary(nn.Module):
    """Attention with rotary positions as complex factors (Su et al. 2021; Llama's form)."""

    def __init__(self, width: int = 64, heads: int = 4, longest: int = 256) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        f = 1e4 ** -(torch.arange(0, width // heads, 2) / (width // heads))
        angles = torch.outer(torch.arange(longest), f)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).unbind(2)
        turns = self.get_buffer("turns")[:length, None]
        q, k = (
            torch.view_as_real(torch.view_as_complex(t.float().reshape(*t.shape[:-1], -1, 2)) * turns).flatten(3)
            for t in (q, k)
        )
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class ComplexResNet(nn.Module):
    """A small complex residual network (Trabelsi et al. 2018)."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = fnn.ComplexConv2d(1, width, 3, padding=1)
        self.convs = nn.ModuleList(fnn.ComplexConv2d(width, width, 3, padding=1) for _ in range(4))
        self.norms = nn.ModuleList(fnn.ComplexBatchNorm2d(width) for _ in range(4))
        self.head = nn.Linear(2 * width, 10)

    @staticmethod
    def act(z: Tensor) -> Tensor:
        return torch.complex(F.relu(z.real), F.relu(z.imag))

    def forward(self, z: Tensor) -> Tensor:
        z = self.stem(z)
        for i in (0, 2):
            y = self.act(self.norms[i](self.convs[i](z)))
            z = self.act(z + self.norms[i + 1](self.convs[i + 1](y)))
        z = z.mean((-2, -1))
        return self.head(torch.cat([z.real, z.imag], -1))


class QuaternionNet(nn.Module):
    """A quaternion network (Parcollet et al. 2019) of operators under speechbrain's names."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        shapes = ((width, 1, 3, 3), (width, width, 3, 3))
        self.weights = nn.ParameterList(nn.Parameter(0.2 * torch.randn(s)) for s in shapes for _ in range(4))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(4 * width)) for _ in shapes)
        self.last = nn.ParameterList(nn.Parameter(0.2 * torch.randn(width, 4)) for _ in range(4))
        self.last_bias = nn.Parameter(torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        for i, bias in enumerate(self.biases):
            w = self.weights[4 * i : 4 * i + 4]
            x = F.relu(q_ops.quaternion_conv_op(x, *w, bias, 1, 1, 1, 1, False))
        return q_ops.quaternion_linear_op(x.mean((-2, -1)), *self.last, self.last_bias)


class PhmNet(nn.Module):
    """Parameterised hypercomplex convolutions (Grassucci et al. 2022), whose algebra is learned."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.a = fnn.HypercomplexConv2d(3, width, 3, 3, padding=1)
        self.b = fnn.HypercomplexConv2d(width, width, 3, 3, padding=1)
        self.bn, self.head = nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.bn(self.b(F.relu(self.a(x))))).mean((-2, -1)))


FLOAT, LONG, BOOL = torch.float32, torch.int64, torch.bool
IMAGES = ((1, 4, 80, 80), (1, 4, 80, 80), (1, 1, 1, 80))
FIELDS: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...], Any]] = {
    "fno 2d": (Fno2d, ((1, 1, 64, 64),), FLOAT),
    "fno 1d": (Fno1d, ((1, 2, 256),), FLOAT),
    "gfnet": (GfNet, ((1, 3, 224, 224),), FLOAT),
    "fnet": (FNet, ((1, 64),), LONG),
    "afno": (Afno, ((1, 3, 64, 128),), FLOAT),
    "ffc (lama)": (Ffc, ((1, 4, 64, 64),), FLOAT),
    "varnet": (VarNet, IMAGES, (COMPLEX, COMPLEX, BOOL)),
    "modl": (Modl, IMAGES, (COMPLEX, COMPLEX, FLOAT)),
    "diffractive": (Diffractive, ((1, 48, 48),), FLOAT),
    "s4d": (S4d, ((1, 32, 256),), FLOAT),
    "hyena": (Hyena, ((1, 256, 32),), FLOAT),
    "rotary attention": (Rotary, ((1, 64, 64),), FLOAT),
    "complex resnet": (ComplexResNet, ((1, 1, 32, 32),), COMPLEX),
    "quaternion net": (QuaternionNet, ((1, 4, 32, 32),), FLOAT),
    "phm net": (PhmNet, ((1, 3, 32, 32),), FLOAT),
}
