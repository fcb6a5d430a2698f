// Parameter updates: one pass over the flat buffers, each number read once and written once, in 16 bytes where aligned.
#include "common.cuh"
#include "grid_sum.cuh"
#include "mathematics.cuh"

constexpr int UPDATE_THREADS = 256;

// As in kernels/updates.py: the kinds, and the places in the array of numbers.
enum UpdateKind { SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA, ADAM, RPROP };
enum UpdatePlace { LR, SCALE, CLIP, L1, L2, DECAY, OWN_A, OWN_B, OWN_C, OWN_D, STEP };

// What each step may have of its own: learning rate, l2 and the number C (Adam's eps); a row of `changing` for each.
enum ChangingPlace { STEP_LR, STEP_L2, STEP_C, CHANGING };

// A run of parameters that are updated alike: the learning rate is multiplied by `factor`, and without `penalties`
// there is neither l1 nor l2 nor decay.
struct Chunk {
    i64 start, stop;
    double factor;
    i64 penalties;
};

// What a step's update needs for one chunk, in the arithmetic of the weights. `keep` is 1 - lr decay.
template <typename A> struct Rule {
    A lr, scale, clip, l1, l2, keep, a, b, c, d, rest_a, rest_b, size, root;
};

template <int KIND> constexpr int STATES = KIND == SGD ? 0 : (KIND >= ADADELTA ? 2 : 1);

// One step of one parameter w with the gradient g and the states s and t; see mlpx.ops.update for the formulas.
template <int KIND, typename A> __device__ __forceinline__ void advance(A& w, A g, A& s, A& t, const Rule<A>& r) {
    A e = g * r.scale;  // g': written so that NaN stays NaN
    e = e < -r.clip ? -r.clip : e;
    e = e > r.clip ? r.clip : e;
    e += r.l2 * w;
    e = w > A(0) ? e + r.l1 : (w < A(0) ? e - r.l1 : e);
    const A kept = w * r.keep;
    if constexpr (KIND == SGD) {
        w = kept - r.lr * e;
    } else if constexpr (KIND == MOMENTUM) {
        s = r.a * s - r.lr * e;
        w = kept + s;
    } else if constexpr (KIND == NESTEROV) {
        const A step = r.lr * e;
        s = r.a * s - step;
        w = kept + (r.a * s - step);
    } else if constexpr (KIND == ADAGRAD) {
        s += e * e;
        w = kept - r.lr * e / (maths::sqrt(s) + r.b);
    } else if constexpr (KIND == RMSPROP) {
        s = r.a * s + r.rest_a * e * e;
        w = kept - r.lr * e / (maths::sqrt(s) + r.b);
    } else if constexpr (KIND == ADADELTA) {
        s = r.a * s + r.rest_a * e * e;
        const A u = maths::sqrt(t + r.b) / maths::sqrt(s + r.b) * e;
        t = r.a * t + r.rest_a * u * u;
        w = kept - r.lr * u;
    } else if constexpr (KIND == ADAM) {
        s = r.a * s + r.rest_a * e;
        t = r.b * t + r.rest_b * e * e;
        w = kept - r.size * s / (maths::sqrt(t) * r.root + r.c);
    } else {
        static_assert(KIND == RPROP, "a kind of the enumeration");
        const A agree = e * s;
        t *= agree > A(0) ? r.b : (agree < A(0) ? r.a : A(1));
        t = t < r.c ? r.c : t;
        t = t > r.d ? r.d : t;
        s = agree < A(0) ? A(0) : e;
        w = kept - (s > A(0) ? t : (s < A(0) ? -t : s));
    }
}

// What all chunks of a launch share; one thread works it out, since powers are slow.
struct Common {
    double lr, l2, c, scale, inverse_bias, root;
    bool stopped;
};

// The powers of both betas by squaring: a tenth of pow's time, and no fewer digits than 1 - beta^n needs.
struct Powers { double a, b; };
__device__ __forceinline__ Powers powers(double a, double b, i64 n) {
    Powers result = {1.0, 1.0};
    for (; n > 0; n >>= 1, a *= a, b *= b) {
        if (n & 1) result = {result.a * a, result.b * b};
    }
    return result;
}

template <typename A>
__device__ __forceinline__ void make_rule(
    Rule<A>& rule, const Chunk& chunk, const Common& common, const double* numbers
) {
    const double lr = common.lr * chunk.factor;
    rule.lr = A(lr);
    rule.scale = A(common.scale);
    rule.clip = A(numbers[CLIP]);
    rule.l1 = chunk.penalties ? A(numbers[L1]) : A(0);
    rule.l2 = chunk.penalties ? A(common.l2) : A(0);
    rule.keep = chunk.penalties ? A(1.0 - lr * numbers[DECAY]) : A(1);
    rule.a = A(numbers[OWN_A]);
    rule.b = A(numbers[OWN_B]);
    rule.c = A(common.c);
    rule.d = A(numbers[OWN_D]);
    rule.rest_a = A(1.0 - numbers[OWN_A]);
    rule.rest_b = A(1.0 - numbers[OWN_B]);
    rule.size = A(lr * common.inverse_bias);
    rule.root = A(common.root);
}

template <typename T, int KIND, int V>
__device__ __forceinline__ void advance_span(
    T* w, const T* g, T* s1, T* s2, i64 start, i64 stop, const Rule<Acc<T>>& rule
) {
    typedef Acc<T> A;
    struct alignas(sizeof(T) * V) Some { T at[V]; };
#pragma unroll 1
    for (i64 i = start + threadIdx.x * V; i < stop; i += UPDATE_THREADS * V) {
        Some ws = *(Some*)(w + i), ss = {}, ts = {};
        const Some gs = *(const Some*)(g + i);
        if (STATES<KIND> > 0) ss = *(Some*)(s1 + i);
        if (STATES<KIND> > 1) ts = *(Some*)(s2 + i);
#pragma unroll
        for (int v = 0; v < V; v++) {
            A weight = A(ws.at[v]), s = A(ss.at[v]), t = A(ts.at[v]);
            advance<KIND>(weight, A(gs.at[v]), s, t, rule);
            ws.at[v] = T(weight);
            ss.at[v] = T(s);
            ts.at[v] = T(t);
        }
        *(Some*)(w + i) = ws;
        if (STATES<KIND> > 0) *(Some*)(s1 + i) = ss;
        if (STATES<KIND> > 1) *(Some*)(s2 + i) = ts;
    }
}

// One step of all chunks' parameters.
//
// numbers       as kernels/updates.py lays them out
// changing      (steps, CHANGING): what each step of the slice has of its own, or null: what `numbers` say
// clock         the step's clock, or null: the step's number is that of `numbers`. After a step whose loss was not
//               finite nothing is updated; the clock goes on.
// squared_norm  null, or the square of the gradient's norm, which is then scaled down to `max_norm`
template <typename T, int KIND>
__global__ void __launch_bounds__(UPDATE_THREADS, sizeof(T) == 8 ? 2 : 4) update(
    T* w, const T* g, T* s1, T* s2, const double* numbers, const Chunk* chunks, i64 n_chunks, const double* changing,
    Clock* clock, const double* squared_norm, double max_norm
) {
    typedef Acc<T> A;
    constexpr int V = Vector<T>::SIZE;
    __shared__ Common common;
    __shared__ Rule<A> rule;  // not in registers, of which the vectors need all
    if (threadIdx.x == 0) {
        const i64 step = clock ? clock->updates + clock->step + 1 : (i64)numbers[STEP];
        const double norm = squared_norm ? ::sqrt(*squared_norm) : 0.0;
        const double* own = changing ? changing + CHANGING * clock->step : nullptr;
        common.lr = own ? own[STEP_LR] : numbers[LR];
        common.l2 = own ? own[STEP_L2] : numbers[L2];
        common.c = own ? own[STEP_C] : numbers[OWN_C];
        common.scale = numbers[SCALE] * (norm > max_norm ? max_norm / norm : 1.0);
        common.stopped = clock && clock->failed != 0;
        common.inverse_bias = common.root = 1.0;
        if (KIND == ADAM) {
            const Powers betas = powers(numbers[OWN_A], numbers[OWN_B], step);
            common.inverse_bias = 1.0 / (1.0 - betas.a);
            common.root = 1.0 / ::sqrt(1.0 - betas.b);
        }
        if (clock && blockIdx.x == 0) clock->next = clock->step + 1;
    }
    const bool aligned = aligned16(w) && aligned16(g) && aligned16(s1) && aligned16(s2);
    double factor = -1.0;  // those of the rule: none yet
    i64 penalties = 0;
    for (i64 number = blockIdx.x; number < n_chunks; number += gridDim.x) {
        const Chunk chunk = chunks[number];
        if (chunk.factor != factor || chunk.penalties != penalties) {
            factor = chunk.factor;
            penalties = chunk.penalties;
            __syncthreads();  // the rule of the chunk before is no longer read
            if (threadIdx.x == 0) make_rule(rule, chunk, common, numbers);
            __syncthreads();
        }
        if (common.stopped) return;
        i64 middle = chunk.start;
        if (aligned && chunk.start % V == 0) {
            middle = chunk.stop - (chunk.stop - chunk.start) % V;
            advance_span<T, KIND, V>(w, g, s1, s2, chunk.start, middle, rule);
        }
        advance_span<T, KIND, 1>(w, g, s1, s2, middle, chunk.stop, rule);
    }
}

// The sum of the squares of n numbers, taken in float64, where no square of a float32 overflows.
template <typename T>
__global__ void __launch_bounds__(UPDATE_THREADS) squared_norm(
    const T* g, i64 n, double* result, double* partials, u32* counter
) {
    constexpr int V = Vector<T>::SIZE;
    const i64 first = (i64)blockIdx.x * UPDATE_THREADS + threadIdx.x, step = (i64)gridDim.x * UPDATE_THREADS;
    double mine = 0.0;
    i64 done = 0;
    if (aligned16(g)) {
        done = n - n % V;
        for (i64 i = first * V; i < done; i += step * V) {
            const Vector<T> some = *(const Vector<T>*)(g + i);
#pragma unroll
            for (int v = 0; v < V; v++) mine += double(some.at[v]) * double(some.at[v]);
        }
    }
    for (i64 i = done + first; i < n; i += step) mine += double(g[i]) * double(g[i]);
    if (sum_over_grid<UPDATE_THREADS>(mine, partials, counter)) *result = mine;
}

// The step's penalty, l2 / 2 times the sum of squares of the weights that l2 is for, to its place in `penalties`.
template <typename T>
__global__ void __launch_bounds__(UPDATE_THREADS) penalty(
    const T* w, const Chunk* chunks, i64 n_chunks, const double* changing, const Clock* clock, double* penalties,
    double* partials, u32* counter
) {
    double mine = 0.0;
    for (i64 number = blockIdx.x; number < n_chunks; number += gridDim.x) {
        const Chunk chunk = chunks[number];
        if (!chunk.penalties) continue;
        for (i64 i = chunk.start + threadIdx.x; i < chunk.stop; i += UPDATE_THREADS) mine += double(w[i]) * double(w[i]);
    }
    if (sum_over_grid<UPDATE_THREADS>(mine, partials, counter)) {
        penalties[clock->step] = 0.5 * changing[CHANGING * clock->step + STEP_L2] * mine;
    }
}
