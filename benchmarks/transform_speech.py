"""Networks that hear: transforms of frames, complex masks and filters, beamformers. Each after its paper, small.

They are written as their authors write them, with torch's own complex numbers, and not for an exporter.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COMPLEX = torch.complex64


class Framed(nn.Module):
    """stft and istft with one window."""

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size))

    def stft(self, x: Tensor) -> Tensor:
        return torch.stft(x, self.size, self.hop, window=self.get_buffer("window"), return_complex=True)

    def istft(self, z: Tensor, length: int | None) -> Tensor:
        return torch.istft(z, self.size, self.hop, window=self.get_buffer("window"), length=length)


class ComplexMask(Framed):
    """Three complex convolutions that give a bounded mask (deep complex networks, Trabelsi et al. 2018)."""

    def __init__(self, size: int = 512, hop: int = 128, wide: int = 8) -> None:
        super().__init__(size, hop)
        widths = (1, wide, wide, 1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, dtype=COMPLEX) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        z = self.stft(x)
        m = z[:, None]
        for conv in self.convs[:-1]:
            m = conv(m)
            m = torch.relu(m.real) + 1j * torch.relu(m.imag)
        m = self.convs[-1](m)[:, 0]
        return self.istft(z * m / (m.abs() + 1e-8) * torch.tanh(m.abs()), x.shape[-1])


class ComplexPair(nn.Module):
    """A complex layer of two real ones, on (real, imaginary) stacked along the channels."""

    def __init__(self, make: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.re, self.im = make(*args, **kwargs), make(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([self.re(a) - self.im(b), self.re(b) + self.im(a)], 1)


class Dccrn(Framed):
    """DCCRN (Hu et al. 2020): complex encoder, complex LSTM, decoder with skips, a polar mask."""

    def __init__(self, size: int = 256, hop: int = 64, widths: tuple[int, ...] = (1, 8, 16)) -> None:
        super().__init__(size, hop)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(
            nn.Sequential(ComplexPair(nn.Conv2d, a, b, (5, 2), (2, 1), (2, 1)), nn.BatchNorm2d(2 * b), nn.PReLU())
            for a, b in pairs
        )
        bins = size // 2 // 2 ** len(pairs)
        self.lstm = nn.ModuleList(nn.LSTM(widths[-1] * bins, 32, batch_first=True) for _ in range(2))
        self.out = nn.Linear(32, widths[-1] * bins)
        self.up = nn.ModuleList(
            ComplexPair(nn.ConvTranspose2d, 2 * b, a, (5, 2), (2, 1), (2, 0), (1, 0)) for a, b in reversed(pairs)
        )

    def forward(self, x: Tensor) -> Tensor:
        z = self.stft(x)
        h = torch.stack([z.real, z.imag], 1)[:, :, 1:]
        skips = []
        for layer in self.down:
            h = layer(h)[..., :-1]
            skips.append(h)
        n, c, f, t = h.shape
        re, im = (part.permute(0, 3, 1, 2).reshape(n, t, -1) for part in h.chunk(2, 1))
        a, b = self.lstm
        real, imag = a(re)[0] - b(im)[0], a(im)[0] + b(re)[0]
        h = torch.cat([self.out(p).reshape(n, t, c // 2, f).permute(0, 2, 3, 1) for p in (real, imag)], 1)
        for layer, skip in zip(self.up, reversed(skips), strict=True):
            (hr, hi), (sr, si) = h.chunk(2, 1), skip.chunk(2, 1)
            h = layer(torch.cat([hr, sr, hi, si], 1))[..., 1:]
        mask = F.pad(h, (0, 0, 1, 0))
        size = torch.sqrt(mask[:, 0] ** 2 + mask[:, 1] ** 2 + 1e-8)
        phase = torch.atan2(mask[:, 1] / size, mask[:, 0] / size) + z.angle()
        return self.istft(torch.polar(torch.tanh(size) * z.abs(), phase), x.shape[-1])


class DcUnet(Framed):
    """Deep complex U-Net (Choi et al. 2019): strided complex convolutions, transposed ones, skips."""

    def __init__(self, size: int = 256, hop: int = 64) -> None:
        super().__init__(size, hop)
        self.a = nn.Conv2d(1, 8, (5, 3), (2, 1), (2, 1), dtype=COMPLEX)
        self.b = nn.Conv2d(8, 16, (5, 3), (2, 1), (2, 1), dtype=COMPLEX)
        self.c = nn.ConvTranspose2d(16, 8, (5, 3), (2, 1), (2, 1), dtype=COMPLEX)
        self.d = nn.ConvTranspose2d(16, 1, (5, 3), (2, 1), (2, 1), dtype=COMPLEX)

    @staticmethod
    def act(z: Tensor) -> Tensor:
        return torch.complex(F.leaky_relu(z.real), F.leaky_relu(z.imag))

    def forward(self, x: Tensor) -> Tensor:
        z = self.stft(x)
        first = self.act(self.a(z.unsqueeze(1)))
        h = self.act(self.c(self.act(self.b(first))))
        m = self.d(torch.cat([h, first], 1)).squeeze(1)
        return self.istft(torch.tanh(m.abs()) * torch.exp(1j * m.angle()) * z, x.shape[-1])


class DeepFilter(Framed):
    """DeepFilterNet (Schröter et al. 2022): each low bin filtered over frames by complex taps that a GRU gives."""

    def __init__(self, size: int = 320, hop: int = 160, bins: int = 64, order: int = 5) -> None:
        super().__init__(size, hop)
        self.bins, self.order = bins, order
        self.gru = nn.GRU(size // 2 + 1, 64, batch_first=True)
        self.gain, self.taps = nn.Linear(64, size // 2 + 1), nn.Linear(64, bins * order * 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.stft(x).transpose(1, 2)  # [N, T, F]
        h = self.gru((z.abs() ** 2 + 1e-10).log10())[0]
        z = z * torch.sigmoid(self.gain(h))
        taps = torch.view_as_complex(self.taps(h).unflatten(-1, (self.bins, self.order, 2)))
        low = F.pad(z[..., : self.bins], (0, 0, self.order - 1, 0)).unfold(1, self.order, 1)
        filtered = torch.einsum("ntfo,ntfo->ntf", low, taps)
        out = z.clone()
        out[..., : self.bins] = filtered
        return self.istft(out.transpose(1, 2), x.shape[-1])


class Mvdr(Framed):
    """Mask-based MVDR beamforming (Souden et al. 2010; Erdogan et al. 2016) with `mics` microphones."""

    def __init__(self, mics: int = 4, size: int = 256, hop: int = 128) -> None:
        super().__init__(size, hop)
        self.mics = mics
        self.net = nn.Sequential(
            nn.Linear(size // 2 + 1, 64), nn.ReLU(), nn.Linear(64, 2 * (size // 2 + 1)), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        n, length = x.shape[0], x.shape[-1]
        z = self.stft(x.reshape(-1, length)).unflatten(0, (n, self.mics)).permute(0, 2, 1, 3)  # [N, F, M, T]
        masks = self.net(z.abs().mean(2).transpose(1, 2)).transpose(1, 2).chunk(2, 1)
        speech, noise = (torch.einsum("nft,nfat,nfbt->nfab", m.to(z.dtype), z, z.conj()) for m in masks)
        noise = noise + 1e-3 * noise.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None] * torch.eye(self.mics)
        top = torch.linalg.solve(noise, speech)
        w = top[..., 0] / (top.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None] + 1e-8)
        return self.istft(torch.einsum("nfm,nfmt->nft", w.conj(), z), length)


class Vocos(Framed):
    """Vocos (Siuzdak 2023): ConvNeXt over mel frames, and an inverse transform as its head."""

    def __init__(self, size: int = 512, hop: int = 128, width: int = 96) -> None:
        super().__init__(size, hop)
        self.embed = nn.Conv1d(80, width, 7, padding=3)
        self.depthwise = nn.ModuleList(nn.Conv1d(width, width, 7, padding=3, groups=width) for _ in range(3))
        self.pointwise = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
            for _ in range(3)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, size + 2)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.embed(mel)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = x + pointwise(depthwise(x).transpose(1, 2)).transpose(1, 2)
        size, phase = self.head(self.norm(x.transpose(1, 2))).transpose(1, 2).chunk(2, 1)
        size = torch.clip(torch.exp(size), max=1e2)
        z = size * (torch.cos(phase) + 1j * torch.sin(phase))
        return self.istft(z, None)


class Hybrid(Framed):
    """A hybrid of waveform and spectrogram (Demucs, Défossez 2021): complex as channels, and both branches summed."""

    def __init__(self, size: int = 512, hop: int = 128) -> None:
        super().__init__(size, hop)
        self.spectral = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 4, 3, padding=1))
        self.temporal = nn.Sequential(nn.Conv1d(2, 16, 9, padding=4), nn.GELU(), nn.Conv1d(16, 2, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        n, channels, length = x.shape
        z = self.stft(x.reshape(-1, length))
        z = z.view(n, channels, *z.shape[-2:])
        m = torch.view_as_real(z).permute(0, 1, 4, 2, 3)
        h = self.spectral(m.reshape(n, channels * 2, *m.shape[-2:])).view(n, channels, 2, *m.shape[-2:])
        z = torch.view_as_complex(h.permute(0, 1, 3, 4, 2).contiguous())
        out = self.istft(z.reshape(-1, *z.shape[-2:]), length).view(n, channels, length)
        return out + self.temporal(x)


class MelEncoder(Framed):
    """The front of Whisper (Radford et al. 2022): frames of 400 points, mel bands, logarithm, two convolutions."""

    def __init__(self) -> None:
        super().__init__(400, 160)
        bins = torch.linspace(0, 1, 201)
        centres = torch.linspace(0, 1, 82)
        rise = (bins - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
        fall = (centres[2:, None] - bins) / (centres[2:] - centres[1:-1])[:, None]
        self.register_buffer("filters", torch.minimum(rise, fall).clamp(min=0))
        self.a, self.b = nn.Conv1d(80, 64, 3, padding=1), nn.Conv1d(64, 64, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        power = self.stft(x)[..., :-1].abs() ** 2
        mel = torch.clamp(self.get_buffer("filters") @ power, min=1e-10).log10()
        mel = torch.maximum(mel, mel.max() - 8.0)
        return F.gelu(self.b(F.gelu(self.a((mel + 4.0) / 4.0))))


class Separator(Framed):
    """A separator on long frames (MDX-Net, Kim et al. 2021): 1,536 points, the low bins kept, a small U-Net."""

    def __init__(self, size: int = 1536, hop: int = 384, bins: int = 512) -> None:
        super().__init__(size, hop)
        self.bins = bins
        self.net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        n, channels, length = x.shape
        z = torch.view_as_real(self.stft(x.reshape(-1, length))).permute(0, 3, 1, 2)
        h = z.reshape(n, 2 * channels, *z.shape[-2:])[:, :, : self.bins]
        h = F.pad(self.net(h), (0, 0, 0, self.size // 2 + 1 - self.bins))
        z = h.reshape(n * channels, 2, *h.shape[-2:]).permute(0, 2, 3, 1).contiguous()
        return self.istft(torch.view_as_complex(z), length).reshape(n, channels, length)


class Crn(Framed):
    """Complex spectral mapping (Tan and Wang 2019): real convolutions on both parts, joined by view_as_complex."""

    def __init__(self, size: int = 320, hop: int = 160) -> None:
        super().__init__(size, hop)
        self.net = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.ELU(), nn.Conv2d(16, 2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.view_as_real(self.stft(x)).permute(0, 3, 1, 2)
        y = self.net(z).permute(0, 2, 3, 1).contiguous()
        return self.istft(torch.view_as_complex(y), x.shape[-1])


class RangeDoppler(nn.Module):
    """Radar: windowed transforms of complex samples over fast and slow time, shifted, in decibels; convolutions."""

    def __init__(self, samples: int = 100, chirps: int = 64) -> None:
        super().__init__()
        self.register_buffer("fast", torch.hann_window(samples))
        self.register_buffer("slow", torch.hann_window(chirps)[:, None])
        self.net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.fft.fft(x * self.get_buffer("fast"), dim=-1)
        z = torch.fft.fftshift(torch.fft.fft(z * self.get_buffer("slow"), dim=-2), dim=-2)
        return self.net(20 * torch.log10(z.abs() + 1e-6))


SPEECH: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...], torch.dtype]] = {
    "complex mask": (ComplexMask, ((1, 16000),), torch.float32),
    "dccrn": (Dccrn, ((1, 8000),), torch.float32),
    "dcunet": (DcUnet, ((1, 8192),), torch.float32),
    "deepfilter": (DeepFilter, ((1, 16000),), torch.float32),
    "mvdr": (Mvdr, ((1, 4, 16000),), torch.float32),
    "vocos": (Vocos, ((1, 80, 100),), torch.float32),
    "hybrid demucs": (Hybrid, ((1, 2, 16000),), torch.float32),
    "mel encoder": (MelEncoder, ((1, 16000),), torch.float32),
    "separator 1536": (Separator, ((1, 2, 48000),), torch.float32),
    "crn": (Crn, ((1, 16000),), torch.float32),
    "range doppler": (RangeDoppler, ((1, 4, 64, 100),), COMPLEX),
}
