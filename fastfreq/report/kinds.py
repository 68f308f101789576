"""What the page says of each kind of result, by its name."""

from __future__ import annotations

TITLES = {
    "heatmap": "Error at every frequency",
    "adaptive_heatmap": "Error at every frequency, to a stated precision",
    "quick_heatmap": "Error at every frequency, predicted from few passes",
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
    "approximation_curve": "In few numbers",
    "invariance": "What stays when the image moves",
    "maximize": "What units look for",
    "top_patches": "What units find",
    "invert": "What layers keep of an image",
    "difference_spectrum": "What a corruption changes",
    "filters": "What filters look for",
    "sparse_coding": "Layers as dictionaries",
    "singular_values": "Singular values",
    "layer_singular_values": "Singular values of one layer",
    "bottleneck": "What layers keep",
    "latent_edit": "Edited at a hidden layer",
    "downsampling": "Coarser grids",
    "linear_frequency_principle": "What a wide network makes of samples",
    "high_frequency_share": "What high frequencies have of the progress",
    "torus_flow": "Rates of decay on the torus",
    "tangent_kernel_decay": "How fast each frequency is forgotten",
    "frequency_order": "In which order frequencies are learned",
    "sinusoid_learning": "Low frequencies first",
    "parameter_robustness": "Frequencies that survive",
    "manifold_learning": "One target along curves",
    "manifold_classification": "Classes along curves",
    "label_noise": "Noise in labels",
    "kernel_learning": "Smooth parts first",
    "delta_fit": "What of a spike is fitted",
    "neighbour_spectra": "Beside nearest neighbours",
    "single_layer_training": "One layer is trained",
    "transfer_learning": "The last layer is trained",
    "frequency_history": "What was learned first",
    "measurement_history": "Measured during training",
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
    "adaptive_heatmap": """
<p>The map of errors again, each cell measured on as many images as its interval needed: the picture on the right says
how many. Where errors are half and half most images are needed, where nearly all or none are wrong few are. With
"controls" each image is measured at some frequencies, which tell part of what it would have shown at the others.</p>
""",
    "quick_heatmap": """
<p>The map of errors, predicted from a small share of the forward passes that it takes. Every image was looked at with a
few waves only, and every wave on a few images, other ones each: the picture on the right is what they said, counted.
The left one is the smooth map behind it, on the assumption that neighbouring frequencies are alike; the middle one says
how uncertain it is. It shows where a network is sensitive; for figures to quote measure the whole map.</p>
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
    "approximation_curve": """
<p>An image is written in a fixed set of patterns: waves over the whole image, wavelets at all sizes and places, or
curvelets, which also have a direction. Only the n largest of its numbers are kept. The curve is the error that the
others leave: the faster it falls, the better the patterns suit the images. Smooth pictures with smooth edges are the
case that theory knows: the squared error falls as n<sup>-1/2</sup> for waves, n<sup>-1</sup> for wavelets and nearly
n<sup>-2</sup> for curvelets, and no fixed set does better.</p>
""",
    "invariance": """
<p>Every image is moved a little: shifted, rotated, or made larger or smaller. Each curve is how far one code of it
moves: the pixels, a fixed code such as wavelets, a layer of the network, its output. At 0 the code does not notice. On
the left, distances are measured by the size of the code; a part that is the same for all images makes them small. On
the right, by how far the code is from that of a picture of the same mean colour without any content: at 1 the code of
the moved image is as far away as if nothing were left of it.</p>
""",
    "filters": """
<p>Left: the filters of each layer as images: what a unit multiplies the picture under it with. A first layer's are its
weights. Those of later layers are what would come out if nothing between were cut off: rectifiers are taken out and
maxima over windows replaced by the middle of the window, as the titles say, so no unit computes just this. Next to them
their Fourier magnitudes, zero frequency in the centre: two bright spots are a wave. Then the wave packets (Gabor
functions) that come closest, and on the right their frequencies and directions. First layers of networks trained on
photographs are mostly such packets, one to two octaves wide, as are cells in the visual cortex, and blobs of colour.
</p>
""",
    "sparse_coding": """
<p>One reading of a network: each layer writes its input as a sum of few of its filters, placed here and there, and the
activations say which and how much. That is certain to be the only such sum if the filters are unlike each other (a low
mutual coherence) and few are used around any place. Triangles say how few; dots and bars how many there are. In
trained networks the dots lie far above the triangles: the theory explains the form of the layers, but does not vouch
for the activations of these ones.</p>
""",
    "maximize": """
<p>Each picture was made, not found: an image was changed step by step so that one unit of the network answers more and
more strongly. Units of the first layers ask for stripes and blobs of one size and direction, later ones for textures,
parts and whole patterns. The number is the unit's answer. Such a picture says what raises a unit most, not what raises
it in photographs; look at both. A unit is called dead where no change of any pixel changes its answer.</p>
<p class="small">Images are sums of waves, held to the spectrum and the colours of photographs, and are shifted, resized
and turned at every step, so that what is found does not hang on single pixels. Mahendran and Vedaldi, "Visualizing Deep
Convolutional Neural Networks Using Natural Pre-images", IJCV 2016; Olah, Mordvintsev and Schubert, "Feature
Visualization", Distill 2017.</p>
""",
    "top_patches": """
<p>Real images, and of each the patch that a unit sees at the place where it answers most; the best of all images comes
first. Without the images at hand the curve shows how fast answers fall from one image to the next: steep curves are
units that answer to few images. Patches show what raises a unit in photographs, pictures made by maximisation what
raises it most of all; where both agree, trust them.</p>
""",
    "invert": """
<p>A layer turns an image into a code. Here another image was searched for, from noise, whose code is the same. What
comes back is what the layer keeps; what comes back wrong, a color, a place, a texture, is what it no longer tells
apart. First layers give the image again, deep ones its parts somewhere. A caricature starts at the image and gets more
of whatever the layer sees in it.</p>
<p class="small">An error may also be the search's: compare the error of the code, which is small where the search
succeeded. Mahendran and Vedaldi, "Visualizing Deep Convolutional Neural Networks Using Natural Pre-images", IJCV
2016.</p>
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
    "linear_frequency_principle": """
<p>A wide network of two layers that is trained on a few samples has many ways to connect them. It takes the one that
needs least of the high frequencies, and that one can be computed from the sizes of its weights before training. Where
inner weights and outer ones are large together the curve is made of straight lines, else it bends like a drawn
spline.</p>
""",
    "high_frequency_share": """
<p>Of each step that lowers the loss, the share that lies above a frequency, at the start, until the loss has halved,
and at the end. A straight line in this picture is a power of the frequency, as networks with kinks (ReLU) have it;
smooth activations bend down below every line. In all of them high frequencies take little part.</p>
""",
    "torus_flow": """
<p>The error at each frequency falls as an exponential of its own. Rates that fall with frequency are the frequency
principle: low ones first. A loss on derivatives multiplies rates by powers of the frequency, and with enough of them
the order turns round.</p>
""",
    "tangent_kernel_decay": """
<p>At which rate the network, where it stands now, would forget an error that is a wave of each frequency. The second
curve says how far the wave decays alone: at 1 it is an eigenfunction, below it drags others along. Rates are of small
steps of plain gradient descent.</p>
""",
    "frequency_order": """
<p>The error at each frequency of a target over training; the dashed line is the error at which it counts as learned.
Low frequencies come first in most settings, and do not under a loss on derivatives, with oscillating activations, data
that crowd in one place, weights that have to grow first, or when absolute errors are compared of amplitudes that
differ.</p>
""",
    "sinusoid_learning": """
<p>Networks were trained on a sum of waves. Left: the share of each wave's amplitude that a network has, step by step,
downwards. The slow ones, at the left, are there first, also where they are the weakest of the target. Right: how much
each layer can stretch what it is given. These norms must grow before a network can follow a fast wave, which is one
reason why fast ones come late.</p>
""",
    "parameter_robustness": """
<p>All parameters of trained networks were moved by a random step. Each line is a length of that step: what is left of
each wave on average, where 1 is all of it. Slow waves last, fast ones need their parameters to be just so.</p>
""",
    "manifold_learning": """
<p>The same waves along curves in the plane: a circle, and flowers of more and more petals. Where the curve winds, a
wave that is fast along the curve is slower in the plane, and is learnt sooner.</p>
""",
    "manifold_classification": """
<p>Two classes that alternate along a curve. Upwards they alternate faster, which is harder; to the right the curve
winds more, which makes it easier. One half is chance.</p>
""",
    "label_noise": """
<p>A wave was added to the labels of images: as a function of the length of the vector of pixels. A slow wave is learnt
at once, like the labels, and the loss on clean images is high from the start. A fast one is learnt late: the loss first
falls nearly as if there were no noise, then rises. The dip is where training should stop.</p>
""",
    "kernel_learning": """
<p>Real images have no axis along which waves could run. The eigenvectors of a kernel stand in for waves: the first
change slowly from image to image, the last differ between images that look alike. Left: how much of each is in the
network's outputs after some steps, over what the target has of it. Right: how wrong it still is, by step downwards.</p>
""",
    "delta_fit": """
<p>A line with one sample that stands out has all frequencies in equal parts. Each curve is how much of each a network
has after training. Depth raises it strongly, width weakly; parameters that may not grow large keep it low.</p>
""",
    "neighbour_spectra": """
<p>A network and nearest neighbours through the same points with random labels. What they say in between has a spectrum:
that of the network falls faster, since it is continuous and prefers slow changes, while neighbours jump.</p>
""",
    "single_layer_training": """
<p>A network with random weights, of which one layer is trained and all others stay as they were drawn. To the left it
is an early layer: what it changes is carried on and expanded by all layers behind it, so it can do more with as many
numbers. Where weights are very large each layer scrambles what the one before has done, and the order is lost.</p>
""",
    "transfer_learning": """
<p>Images go through a first layer that is not trained, and a linear classifier on top of it is. The first layers: none,
random filters, filters learned on other classes, and wavelets, which nobody had to learn. Where the lines lie together,
filters that were learned elsewhere are worth no more than wavelets.</p>
""",
    "frequency_history": """
<p>A network is a function: images go in, numbers for classes come out. Part of what it has to learn is coarse: images
that look alike mostly belong to the same class, so that the answer changes slowly as one image turns into another.
That is the low-frequency part of the function. The rest are exceptions: images that lie close together and yet have
different classes, where the answer has to change at a small step. That is its high-frequency part. Frequency is meant
here over the space of all images; it is not the fineness of the detail in one image.</p>
<p>The question of this page is which of the two a network learns first. At steps of its training it was asked about the
same images again and again. Its answers and the right answers were split into a low and a high part, and each part's
error is shown: red is 1, nothing learned, blue is .1 and less, nearly all. Nearly always blue spreads from below: the
low part is learned first, in all kinds of networks, and the exceptions later, if at all. This is called the frequency
principle, or spectral bias. It is one reason why networks with far more weights than images generalise: where the
images leave them a choice they choose the smooth function. It is also why fine structure is slow to come.</p>
<p>Three ways to split. <i>Filtering</i> averages answers over neighbouring images; the low part is the average, the
high part what is left, and the width δ says how far neighbours may be. <i>Projection</i> lays all images on a line, the
direction in which they differ most, and takes the Fourier transform along it; of it, low frequencies and wide bands
mean most. The <i>exact</i> transform needs inputs on a regular grid. The spectral bias is one number from -1 to 1 from
the two halves of the target: positive where the low half is ahead.</p>
<p class="small">Marks: from there on the error stays below 0.2. A filter splits where the mean weight of an image on
itself is below .05 and the high part holds .3 to .9 of the norm of the answers; at other widths one of its parts says
little. Xu, Zhang, Luo, Xiao and Ma, "Frequency Principle: Fourier Analysis Sheds Light on Deep Neural Networks", 2020;
Kiessling and Thor, "A Computable Definition of the Spectral Bias", AAAI 2022.</p>
""",
    "measurement_history": """
<p>One measurement, taken again and again while the network was trained. Rows are those of its table, columns of the
picture steps of the training. The result at each step is kept whole: <i>history[step]</i> draws it.</p>
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
