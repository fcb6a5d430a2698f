// Losses of single outputs with their gradients, by code: for one prediction (or logit) and its target.
#pragma once
#include "mathematics.cuh"

enum LossCode { CROSS_ENTROPY, BINARY, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON };

template <typename A> struct ElementLoss { A loss, gradient; };

// `q` is the column's positive weight (BINARY) or level (QUANTILE), `option` the label smoothing (BINARY) or Huber's
// delta.
template <int CODE, typename A> __device__ __forceinline__ ElementLoss<A> element_loss(A y, A target, A q, A option) {
    if constexpr (CODE == BINARY) {
        const A t = target * (A(1) - option) + A(0.5) * option, positive = t * q;
        // No positive part where t = 0, no negative one where t = 1: there a logit may be infinite on the right side.
        A loss = positive != A(0) ? positive * maths::softplus(-y) : A(0);
        if (t != A(1)) loss += (A(1) - t) * maths::softplus(y);
        return {loss, maths::sigmoid(y) * (positive + A(1) - t) - positive};
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
    } else {
        static_assert(CODE == POISSON, "a code of the enumeration");
        const A rate = maths::exp(y);
        return {rate - target * y, rate - target};
    }
}
