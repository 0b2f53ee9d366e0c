"""Elementary functions whose bits depend on neither the processor nor a library.

Libraries pick another implementation of `log`, `exp` or a matrix decomposition for each processor, and their last bits
differ. What decides the bytes of `data/` (recipes, initial weights, features) therefore uses only operations that
IEEE 754 fixes: +, -, *, /, square roots and scaling by powers of two, in the order that is written here. The kernels in
`kernel/csrc/elementary.h` do the same in single precision.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""log(2) in two parts: the first has so few bits that its products with an exponent are exact."""
FARTHEST = 800.0
"""Beyond it, on either side, `exp` is infinite or 0."""

# The odd and even terms of (log(1 + f) - 2 s) / s, s = f / (2 + f), and of exp's correction: fdlibm, Sun Microsystems.
_LOG_ODD = 6.666666666666735130e-01, 2.857142874366239149e-01, 1.818357216161805012e-01, 1.479819860511658591e-01
_LOG_EVEN = 3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01
_EXP = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)

# Numerators and denominators of PPND16: the centre, the tails, and what lies beyond.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def log(x: ArrayLike) -> Doubles:
    """Return the natural logarithm, float64, within 1 ulp; -inf of 0, NaN of negative numbers.

    Source: fdlibm, e_log.c. The C++ kernel has the same (`log_of_total`).
    """
    x = np.asarray(x, np.float64)
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    f = np.where(small, 2 * mantissa, mantissa) - 1
    k = (exponent - small).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # at the border, see below
        s = f / (2 + f)
    z = s * s
    half = 0.5 * f * f
    rest = (z * z) * _polynomial(_LOG_EVEN, z * z) + z * _polynomial(_LOG_ODD, z * z)
    logarithm = k * LN2_HIGH - ((half - (s * (half + rest) + k * LN2_LOW)) - f)
    usual = (x > 0) & (x < np.inf)
    return np.asarray(logarithm if usual.all() else np.where(usual, logarithm, _log_at_the_border(x)))


def _log_at_the_border(x: Doubles) -> Doubles:
    return np.where(x == 0, -np.inf, np.where(x > 0, x, np.nan))


def log1p(x: ArrayLike) -> Doubles:
    """Return log(1 + x) of x > -1, float64, within 2 ulp: what rounding took from 1 + x is put back to first order.

    Source: fdlibm, s_log1p.c.
    """
    x = np.asarray(x, np.float64)
    whole = 1 + x
    with np.errstate(invalid="ignore"):  # inf - inf
        lost = np.where(whole > 2, 1 - (whole - x), x - (whole - 1)) / whole
    return log(whole) + (lost if np.isfinite(lost).all() else np.where(np.isfinite(lost), lost, 0))


def exp(x: ArrayLike) -> Doubles:
    """Return e to the power of x, float64, within 1 ulp where the result is a normal number.

    Source: fdlibm, e_exp.c.
    """
    x = np.minimum(np.maximum(np.asarray(x, np.float64), -FARTHEST), FARTHEST)
    k = np.floor(x / (LN2_HIGH + LN2_LOW) + 0.5)
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    square = r * r
    c = r - square * _polynomial(_EXP, square)
    with np.errstate(over="ignore", invalid="ignore"):  # NaN has any exponent
        return np.asarray(np.ldexp(1 - ((low - r * c / (2 - c)) - high), k.astype(np.int32)))


def fold(terms: Doubles, axis: int = 0) -> Doubles:
    """Return the sums over one axis, which is dropped: its halves are added until one place is left.

    The order of the additions depends on the length of the axis alone, and each runs over whole arrays.
    """
    terms = np.moveaxis(terms, axis, 0)
    while len(terms) > 1:
        half = len(terms) // 2
        if len(terms) % 2:
            folded = terms[: half + 1].copy(order="K")
            np.add(terms[:half], terms[half:-1], out=folded[:half])
            folded[half] = terms[-1]
        else:
            folded = terms[:half] + terms[half:]
        terms = folded
    return np.asarray(terms[0])


def normal_quantile(probability: ArrayLike) -> Doubles:
    """Return the quantiles of the standard normal distribution, to about 1e-16 relative; 0 < probability < 1.

    Source: Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution" (1988), PPND16.
    """
    p = np.asarray(probability, np.float64)
    q = p - 0.5
    centre = np.abs(q) <= 0.425
    tail = np.sqrt(-log(np.where(centre, 0.25, np.minimum(p, 1 - p))))
    far = tail > 5
    beyond = np.where(far, _ratio(_FAR_TAIL, tail - 5), _ratio(_TAIL, tail - 1.6))
    return np.where(centre, q * _ratio(_CENTRE, 0.180625 - q * q), np.copysign(beyond, q))


def orthonormal_columns(matrix: Doubles) -> Doubles:
    """Return Q (m, n) of matrix = Q R, R having a positive diagonal: columns orthonormal to rounding; m >= n.

    Modified Gram-Schmidt, twice: once is exact to the condition number times rounding, the second time removes that
    (Giraud, Langou and Rozloznik 2005).
    """
    q = np.array(matrix, np.float64)
    for _ in range(2):
        for column in range(q.shape[1]):
            direction = q[:, column]
            direction /= np.sqrt(fold((direction * direction)[:, None]))
            following = q[:, column + 1 :]
            following -= direction[:, None] * fold(direction[:, None] * following)
    return q


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Doubles) -> Doubles:
    numerator, denominator = coefficients
    return _polynomial(numerator, x) / _polynomial(denominator, x)


def _polynomial(coefficients: Sequence[float], x: Doubles) -> Doubles:
    """Return c0 + c1 x + c2 x^2 ... by Horner's rule."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value *= x
        value += coefficient
    return value
