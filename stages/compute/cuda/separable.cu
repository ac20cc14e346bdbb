// The kernels of stages/compute/separable_device.py; stages/compute/separable_host.py does the same on the host.
//
// A thread makes one voxel of a result that differs from what it is made of along one axis: a sum of `count`
// neighbours along it, which are `step` apart, weighted.

typedef long long Step;

__device__ static Step thread() {
    return (Step)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ static float combined(const float *at, Step step, const float *weights, int count) {
    float sum = 0;
    for (int k = 0; k < count; ++k) sum += at[step * k] * weights[k];
    return sum;
}

template <typename Value>
__device__ static float combined_clipped(const Value *at, Step step, const float *weights, int count,
                                         float low, float high) {
    float sum = 0;
    for (int k = 0; k < count; ++k) sum += fminf(fmaxf((float)at[step * k], low), high) * weights[k];
    return sum;
}

// New rows. What is read is any view of the volume, clipped first; what is made lies in order.
template <typename Value>
__device__ static void rows(const Value *array, Step step_z, Step step_y, Step step_x, float low, float high,
                            const Step *first, const float *weights, int count, float *out, Step slices,
                            Step rows, Step columns) {
    Step n = thread();
    if (n >= slices * rows * columns) return;
    Step z = n / columns / rows, y = n / columns % rows, x = n % columns;
    const Value *at = array + step_z * z + step_y * first[y] + step_x * x;
    out[n] = combined_clipped(at, step_y, weights + y * count, count, low, high);
}

#define ROWS(name, Value)                                                                                     \
    extern "C" __global__ void name(const Value *array, Step step_z, Step step_y, Step step_x, float low,     \
                                    float high, const Step *first, const float *weights, int count,           \
                                    float *out, Step slices, Step number, Step columns) {                     \
        rows(array, step_z, step_y, step_x, low, high, first, weights, count, out, slices, number, columns);  \
    }

ROWS(rows_int16, short)
ROWS(rows_float32, float)

// New columns, from `old` columns each row.
extern "C" __global__ void columns(const float *array, Step old, const Step *first, const float *weights,
                                   int count, float *out, Step lines, Step number) {
    Step n = thread();
    if (n >= lines * number) return;
    Step line = n / number, x = n % number;
    out[n] = combined(array + line * old + first[x], 1, weights + x * count, count);
}

// New slices, brought to their bounds (lowest and highest for each slice, row and column), and what is made of
// them.
extern "C" __global__ void slices(const float *array, const Step *first, const float *weights, int count,
                                  const float *of_slices, const float *of_rows, const float *of_columns,
                                  int truncate, float low, float high, float zero, float scale, float offset,
                                  float *out, Step number, Step rows, Step columns) {
    Step n = thread();
    if (n >= number * rows * columns) return;
    Step z = n / columns / rows, y = n / columns % rows, x = n % columns, plane = rows * columns;
    float value = combined(array + first[z] * plane + n % plane, plane, weights + z * count, count);
    value = fmaxf(value, fmaxf(of_slices[2 * z], fmaxf(of_rows[2 * y], of_columns[2 * x])));
    value = fminf(value, fminf(of_slices[2 * z + 1], fminf(of_rows[2 * y + 1], of_columns[2 * x + 1])));
    if (truncate) value = truncf(value + copysignf(1.0f / 512, value));
    out[n] = (fminf(fmaxf(value, low), high) - zero) * scale + offset;
}
