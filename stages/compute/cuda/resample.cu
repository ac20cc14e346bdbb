// The kernels of stages/resample_device.py; stages/resample_host.py does the same on the host.
//
// A thread makes one voxel of the result. Strides are in elements and may be negative, so that any view
// of an array will do. An axis's samples are the old indices on both sides of each new one, and the share
// of the second.

typedef unsigned int Index;
typedef long long Step;

struct Sample {
    Index lower, upper;
    float share;
};

__device__ static Sample sample_at(const Index *lower, const Index *upper, const float *share, Step n) {
    Sample sample = {lower[n], upper[n], share[n]};
    return sample;
}

__device__ static float mixed(float first, float second, float share) {
    return first + (second - first) * share;
}

template <typename Value>
__device__ static float between(const Value *array, Step step_z, Step step_y, Step step_x, Sample z, Sample y,
                                Sample x) {
    float column[2];
    for (int side = 0; side < 2; ++side) {
        const Value *at = array + step_x * (side ? x.upper : x.lower);
        float near = mixed((float)at[step_z * z.lower + step_y * y.lower],
                           (float)at[step_z * z.upper + step_y * y.lower], z.share);
        float far = mixed((float)at[step_z * z.lower + step_y * y.upper],
                          (float)at[step_z * z.upper + step_y * y.upper], z.share);
        column[side] = mixed(near, far, y.share);
    }
    return mixed(column[0], column[1], x.share);
}

template <typename Value>
__device__ static void resample(const Value *array, Step step_z, Step step_y, Step step_x, const Index *below,
                                const Index *above, const float *share_z, const Index *before,
                                const Index *behind, const float *share_y, const Index *left,
                                const Index *right, const float *share_x, float low, float high, float zero,
                                float scale, float offset, float *out, Step slices, Step rows, Step columns) {
    Step n = (Step)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= slices * rows * columns) return;
    Sample z = sample_at(below, above, share_z, n / columns / rows);
    Sample y = sample_at(before, behind, share_y, n / columns % rows);
    Sample x = sample_at(left, right, share_x, n % columns);
    float value = between(array, step_z, step_y, step_x, z, y, x);
    out[n] = (fminf(fmaxf(value, low), high) - zero) * scale + offset;
}

#define RESAMPLE(name, Value)                                                                                 \
    extern "C" __global__ void name(const Value *array, Step step_z, Step step_y, Step step_x,                \
                                    const Index *below, const Index *above, const float *share_z,             \
                                    const Index *before, const Index *behind, const float *share_y,           \
                                    const Index *left, const Index *right, const float *share_x, float low,   \
                                    float high, float zero, float scale, float offset, float *out,            \
                                    Step slices, Step rows, Step columns) {                                   \
        resample(array, step_z, step_y, step_x, below, above, share_z, before, behind, share_y, left, right,  \
                 share_x, low, high, zero, scale, offset, out, slices, rows, columns);                        \
    }

RESAMPLE(resample_int16, short)
RESAMPLE(resample_float32, float)

// Without a threshold (not a number) the first class with the highest score; else the last one with a score
// above it, and values[classes] where there is none.
extern "C" __global__ void label(const float *scores, int classes, float threshold, Step step_class,
                                 Step step_z, Step step_y, Step step_x, const Index *below,
                                 const Index *above, const float *share_z, const Index *before,
                                 const Index *behind, const float *share_y, const Index *left,
                                 const Index *right, const float *share_x, const unsigned char *values,
                                 unsigned char *out, Step out_z, Step out_y, Step out_x, Step slices,
                                 Step rows, Step columns) {
    Step n = (Step)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= slices * rows * columns) return;
    Step slice = n / columns / rows, row = n / columns % rows, column = n % columns;
    Sample z = sample_at(below, above, share_z, slice);
    Sample y = sample_at(before, behind, share_y, row);
    Sample x = sample_at(left, right, share_x, column);
    bool any_above = threshold == threshold;
    int best = any_above ? classes : 0;
    float highest = 0.0f;
    for (int c = 0; c < classes; ++c) {
        float score = between(scores + step_class * c, step_z, step_y, step_x, z, y, x);
        if (any_above) {
            if (score > threshold) best = c;
        } else if (c == 0 || score > highest) {
            best = c;
            highest = score;
        }
    }
    out[out_z * slice + out_y * row + out_x * column] = values[best];
}
