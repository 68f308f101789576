"""What the page says of each kind of result, by its name."""

from __future__ import annotations

TITLES = {
    "heatmap": "Error at every frequency",
    "gradient_heatmap": "Every frequency from one backward pass per image",
    "fourier_attack": "One wave that fools",
    "adversarial_spectrum": "What attacks add",
    "corruption_report": "Common corruptions",
    "post_averaging_curve": "Averaged predictions",
    "filter_curve": "Accuracy on filtered images",
    "noise_curve": "Accuracy under filtered noise",
    "critical_band": "Noise in octave bands",
    "dominant_frequencies": "Frequencies that classes need",
    "component_curves": "Low part and high part",
    "feature_spectra": "What feature maps hold",
    "image_spectrum": "What images hold",
    "difference_spectrum": "What a corruption changes",
    "singular_values": "Singular values",
    "layer_singular_values": "Singular values of one layer",
    "bottleneck": "What layers keep",
    "latent_edit": "Edited at a hidden layer",
    "downsampling": "Coarser grids",
    "relu_transform": "A network's own Fourier transform",
    "activation_decay": "How activations decay",
}

# kinds whose plots take several results of one model under one name
TOGETHER = ("filter_curve", "noise_curve")

# after the heading: how to read the figures
NOTES = {
    "heatmap": """
<p>Each cell of a map is one experiment: a wave of a single spatial frequency is added to every image, and the cell
shows how many images the network then gets wrong. The centre is zero frequency, a uniform change of brightness. The
further from the centre, the finer the wave: the axes count how often it repeats across the image, vertically and
horizontally. Opposite cells are the same wave, so every map is symmetric about its centre.</p>
<p>Photographs and digits keep most of their energy near the centre. A naturally trained network usually leans on
everything it can find, fine detail included: its map is dark only around the centre, and errors rise away from it.
Networks trained with noise or against attacks ignore fine waves, so the rim of their map is dark, and they pay for it
near the centre, where they now find their evidence. Robust at one place is not robust everywhere: that is the
trade-off.</p>
<p>Two traps. A map of one colour rarely means a robust network: more often the wave never reached it, because it was
added after normalisation, or the norm is too small or too large. And the norm <i>eps</i> is counted for each colour
channel; clipping to valid pixel values takes a little of it away, most where images are very dark or very bright.</p>
""",
    "gradient_heatmap": """
<p>The gradient of the loss with respect to the pixels, seen by frequency: how much the loss would move for a very
small wave. It needs one backward pass per image in place of one forward pass per frequency, and it is a first-order
guess: it finds where a network is sensitive, not how many images a wave of a given size fools. Where an error is
predicted, it is the share of images whose margin such a linear network would lose.</p>
""",
    "fourier_attack": """
<p>For each image, single waves are tried one after the other, with every sign of every channel, until the network is
wrong. The map shows at which frequencies images fell; images that were wrong without any wave do not count.</p>
""",
    "adversarial_spectrum": """
<p>The mean spectrum of the difference between attacked and original image, over the images that the attack fooled.
A flat spectrum is white noise; one that falls from the centre has the shape of images themselves. Attacks are no
high-frequency noise by nature: the spectrum follows what the network leans on.</p>
""",
    "corruption_report": """
<p>Accuracy under each corruption and severity. The high fraction is the share of a corruption's energy that lies
outside the low frequencies: noises have much of it, fog and contrast little. Against a baseline, the line through the
gains says whether a network is better where corruptions are fine, worse where they are coarse.</p>
""",
    "post_averaging_curve": """
<p>The prediction is averaged over points on spheres around each image, which cuts off the high frequencies of the
network as a function of its input. Too small a radius defends nothing; too large a one costs accuracy on clean images.
Attacks on the plain network overstate the defence: adaptive ones know of the average.</p>
""",
    "filter_curve": """
<p>Only a part of each image's frequencies is kept, and the accuracy is that on what is left. Low-pass curves that rise
late belong to networks that need fine detail. Networks often recognise images of which a person sees nothing but a
faint grain: high-pass curves say so.</p>
""",
    "noise_curve": """
<p>Gaussian noise is confined to a part of the frequencies and scaled to one norm, so that only its place changes. A
network is robust where the curve stays near the dashed line of clean images.</p>
""",
    "critical_band": """
<p>Noise one octave wide is added at several strengths. The strength at which accuracy falls to the criterion is the
band's threshold, and its inverse the sensitivity; a Gaussian over log frequency through them is the network's channel.
People recognise objects through a channel about one octave wide; networks use wider ones.</p>
""",
    "dominant_frequencies": """
<p>Each cell is a frequency that was removed from the images, and the rise of the loss for the images of one class.
Outlined cells are those that hurt most. The same cells in every class point at the data; different ones at what tells
the class apart.</p>
""",
    "component_curves": """
<p>Each image is split at a radius into a low and a high part that add up to it. Curves count the images whose class is
still recognised from one part alone. Images recognised from the high part only are those that a network reads where a
person cannot.</p>
""",
    "feature_spectra": """
<p>The spectra of feature maps, layer by layer, on one axis in cycles per image. Layers that fall steeply smooth the
image; layers that stay level, or rise at the right end, carry fine detail or alias what a stride folded down.</p>
""",
    "image_spectrum": """
<p>The mean amplitude of images at every frequency. Natural images fall as one over the radius to a power alpha near 1;
a much flatter spectrum is noise, a steeper one blur. Bright axes come from edges of the image.</p>
""",
    "difference_spectrum": """
<p>The mean spectrum of the difference between a corrupted image and the original: where the corruption acts. Noises are
flat, blurs take from the rim, fog and contrast act at the centre.</p>
""",
    "singular_values": """
<p class="small">A convolution is a linear map of images: one small matrix per spatial frequency, whose singular values
are the map's. The norm is the largest, the most that the layer stretches any input; "&lt;=" marks upper bounds, for
layers with zero padding. The condition number is the largest over the smallest. The effective rank is the exponential
of the entropy of the values: how many directions the layer uses, of as many as the last column says. Both are those of
the periodic map, of which a layer with zero padding is a part.</p>
""",
    "bottleneck": """
<p>A convolution treats every spatial frequency by itself: at each one it is a small matrix, from input channels to
output channels. Its singular values say how strongly it passes on each pattern of channels there. A dot near zero is a
pattern that the layer drops, a dot near one it passes on unchanged. A strip is one layer, first to last; in a strip the
frequencies run from left, a uniform brightness, to right, the finest detail.</p>
<p>In a deep network that was trained with weight decay, keeping a pattern costs something in every layer. The cheapest
network therefore carries only the few patterns that the task needs, the same few in all its middle layers: a few dots
stand near one, all others sink. That is the bottleneck. A bar in a strip marks the largest gap between dots; what is
above it is kept. If only dots at the left edge stand above the bars, the network carries no positions, only what is
in the image. Strips without a bar have no gap: dots fall off gradually, and every frequency is used a little. That is
what most networks from the shelf look like, and it is no fault.</p>
<p class="small">Kept: values above the bar, of as many as there are; without a gap all above a tenth of the largest.
Frequencies: at how many something is kept. Gap: the last value kept over the first dropped; 1 where none was found.
With images: the share of the layer's input, and of its output, that lies in what the layer keeps, and the effective
rank of the input at a frequency. Layers with zero padding are taken as parts of periodic ones. Wen and Jacot, "Which
Frequencies do CNNs Need?", ICML 2024.</p>
""",
    "downsampling": """
<p>A layer whose output holds no fine detail need not be computed at every pixel: every second one and a smooth curve
through them say the same. Above: the share of each layer's output that is lost at each spacing, and the share that was
allowed. Below: the side of the layer's grid now, and of the smallest that holds the allowed share by its frequencies.
Layers that stay below the allowed line, and for which it saves work, were changed all at once; the caption has the
accuracy on the same images before and after, with 95 % intervals, and the time.</p>
""",
    "relu_transform": """
<p>A network of linear layers and rectifiers is affine in pieces, so its Fourier transform has a closed form: nothing
here is sampled. Dots are the part that the network's own bends make. It falls with the second power of the frequency
straight across a bend and with the third elsewhere; a sum of many bends is still on its way there while waves are
longer than the bends. Thin lines are the whole transform, which the sharp end of the window dominates wherever the
network is not zero there. No dot lies above the dashed line, which follows from the network's Lipschitz bound: small
weights leave little at high frequencies.</p>
""",
    "activation_decay": """
<p>How fast the Fourier transform of an activation falls decides how little of a high frequency one unit can hold, and
so in which order frequencies are learned. Each row is measured from the function itself, beside what theory says: a
kink leaves a power of the frequency, a smooth function an exponential set by its nearest pole in the complex plane.</p>
""",
}
NOTES["layer_singular_values"] = NOTES["singular_values"]


def title(kind: str) -> str:
    """The heading of a kind's section."""
    return TITLES.get(kind, kind.replace("_", " ").capitalize())
