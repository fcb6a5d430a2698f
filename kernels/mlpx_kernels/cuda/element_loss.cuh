// Losses of single outputs with their gradients, by code: for one prediction (or logit) and its target.
#pragma once
#include "mathematics.cuh"

enum LossCode {
    CROSS_ENTROPY, BINARY, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON, GAMMA, HINGE, BINARY_FOCAL, FOCAL, CLIPPED_BINARY,
};

template <typename A> struct ElementLoss { A loss, gradient; };

// `q` is the column's positive weight (BINARY) or level (QUANTILE), `option` the label smoothing (BINARY), Huber's
// delta, the focus (BINARY_FOCAL) or the ceiling (CLIPPED_BINARY): -log eps for the loss, though not the gradient, of
// probabilities clipped to [eps, 1 - eps], with the rounding of 1 - p where it shows.
template <int CODE, typename A> __device__ __forceinline__ ElementLoss<A> element_loss(A y, A target, A q, A option) {
    if constexpr (CODE == BINARY) {
        const A t = target * (A(1) - option) + A(0.5) * option, positive = t * q;
        // No positive part where t = 0, no negative one where t = 1: there a logit may be infinite on the right side.
        A loss = positive != A(0) ? positive * maths::softplus(-y) : A(0);
        if (t != A(1)) loss += (A(1) - t) * maths::softplus(y);
        return {loss, maths::sigmoid(y) * (positive + A(1) - t) - positive};
    } else if constexpr (CODE == CLIPPED_BINARY) {
        const ElementLoss<A> exact = element_loss<BINARY>(y, target, A(1), A(0));
        if (!(maths::abs(y) > option / A(3))) return exact;
        const A least = maths::exp(-option), p = A(1) / (A(1) + maths::exp(-y));
        const A clipped = p < least ? least : (p > A(1) - least ? A(1) - least : p);
        A loss = target != A(0) ? -target * maths::log(clipped) : A(0);
        if (target != A(1)) loss -= (A(1) - target) * maths::log(A(1) - clipped);
        return {loss, exact.gradient};
    } else if constexpr (CODE == SQUARED) {
        const A e = y - target;
        return {A(0.5) * e * e, e};
    } else if constexpr (CODE == ABSOLUTE) {
        const A e = y - target;
        return {maths::abs(e), e > A(0) ? A(1) : (e < A(0) ? A(-1) : e)};
    } else if constexpr (CODE == HUBER) {
        const A e = y - target, near = e < -option ? -option : (e > option ? option : e);
        return {near * (e - A(0.5) * near), near};
    } else if constexpr (CODE == QUANTILE) {
        const A e = target - y;
        return {e > A(0) ? q * e : (q - A(1)) * e, e > A(0) ? -q : (e < A(0) ? A(1) - q : e)};
    } else if constexpr (CODE == POISSON) {
        const A rate = maths::exp(y);
        return {rate - target * y, rate - target};
    } else if constexpr (CODE == GAMMA) {
        const A ratio = target * maths::exp(-y);
        return {y + ratio, A(1) - ratio};
    } else if constexpr (CODE == HINGE) {
        const A s = A(2) * target - A(1), shortfall = A(1) - s * y;
        const A rest = shortfall <= A(0) ? A(0) : shortfall;  // NaN stays
        return {rest, shortfall > A(0) ? -s : rest};
    } else {
        static_assert(CODE == BINARY_FOCAL, "a code of the enumeration");
        const A p = maths::sigmoid(y), rest = maths::sigmoid(-y), yes = maths::softplus(-y), no = maths::softplus(y);
        // (1 - p)^f and p^f; with f = 0 they are 1, also where the logarithm is infinite
        const A easy_yes = target * (option > A(0) ? maths::exp(-option * no) : A(1));
        const A easy_no = (A(1) - target) * (option > A(0) ? maths::exp(-option * yes) : A(1));
        A loss = target != A(0) ? easy_yes * yes : A(0);
        if (target != A(1)) loss += easy_no * no;
        const A up = easy_no * (option * (rest > A(0) ? rest * no : A(0)) + p);
        return {loss, up - easy_yes * (option * (p > A(0) ? p * yes : A(0)) + rest)};
    }
}
