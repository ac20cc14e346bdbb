// The kernels of stages/windows_device.py; stages/window_source.py and stages/blending.py do the same on the
// host.
//
// Windows are four numbers each: slice, row and column where one begins in the padded image, and which of its
// axes are mirrored (bit 0 slices, bit 1 rows, bit 2 columns). A thread makes one voxel and goes through the
// windows in their order, so that what it adds up does not depend on which thread runs first. Sums lie in a ring
// of as many slices as a window has, one after the other for each class, behind them the sum of the weights.

typedef long long Step;

enum Activation { NONE, SOFTMAX, SIGMOID, LABELS };
enum Padding { CONSTANT, REPLICATE, REFLECT };
enum Fault { NOT_FINITE, NO_LABEL, THE_LABEL };

struct Window {
    int z, y, x, mirrored;
};

// Numbers of half precision are bits, as no header is needed for them.
struct Half {
    unsigned short bits;
};

#ifdef __CUDACC__
__device__ static float value_of(Half half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half.bits));
    return value;
}

__device__ static void put(Half *at, float value) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(at->bits) : "f"(value));
}
#else  // for the tests, on the host
static float value_of(Half half) {
    _Float16 value;
    __builtin_memcpy(&value, &half, sizeof(half));
    return value;
}

static void put(Half *at, float value) {
    _Float16 half = value;
    __builtin_memcpy(at, &half, sizeof(half));
}
#endif

template <typename Value>
__device__ static float value_of(Value value) {
    return (float)value;
}

__device__ static void put(float *at, float value) {
    *at = value;
}

__device__ static unsigned int thread() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ static int turned(int n, int size, int mirrored, int axis) {
    return mirrored >> axis & 1 ? size - 1 - n : n;
}

// Where index n of an axis lies that goes on beyond its voxels as they are, or mirrored at their centres.
__device__ static int within(int n, int size, int mode) {
    if (mode == REPLICATE) return n < 0 ? 0 : n < size ? n : size - 1;
    if (mode == CONSTANT || size == 1) return mode == CONSTANT ? n : 0;
    int period = 2 * (size - 1);
    n = (n % period + period) % period;
    return n < size ? n : period - n;
}

// Image slice n lies at n modulo `ring`; what is outside of the image is padding.
template <typename Value>
__device__ static void cut(const float *image, int ring, int slices, int rows, int columns, int before_z,
                           int before_y, int before_x, float padding, int mode, const Window *windows,
                           int depth, int height, int width, Value *out, Step out_window, Step out_z, Step out_y,
                           Step out_x, unsigned int count) {
    unsigned int n = thread();
    if (n >= count) return;
    int column = n % width, row = n / width % height, slice = n / width / height % depth;
    unsigned int number = n / width / height / depth;
    Window window = windows[number];
    int z = within(window.z - before_z + turned(slice, depth, window.mirrored, 0), slices, mode);
    int y = within(window.y - before_y + turned(row, height, window.mirrored, 1), rows, mode);
    int x = within(window.x - before_x + turned(column, width, window.mirrored, 2), columns, mode);
    bool inside = z >= 0 && z < slices && y >= 0 && y < rows && x >= 0 && x < columns;
    float value = inside ? image[((Step)(z % ring) * rows + y) * columns + x] : padding;
    put(out + out_window * number + out_z * slice + out_y * row + out_x * column, value);
}

#define CUT(name, Value)                                                                                      \
    extern "C" __global__ void name(const float *image, int ring, int slices, int rows, int columns,          \
                                    int before_z, int before_y, int before_x, float padding, int mode,        \
                                    const Window *windows, int depth, int height, int width, Value *out,      \
                                    Step out_window, Step out_z, Step out_y, Step out_x,                      \
                                    unsigned int count) {                                                     \
        cut(image, ring, slices, rows, columns, before_z, before_y, before_x, padding, mode, windows, depth,  \
            height, width, out, out_window, out_z, out_y, out_x, count);                                      \
    }

CUT(cut_float32, float)
CUT(cut_float16, Half)

// Add the scores of a voxel, which lie `step` apart, to sums that lie `apart`.
template <typename Value>
__device__ static void add_scores(const Value *answer, Step step, int classes, int activation, float weight,
                                  float *sums, Step apart, int *faults) {
    if (activation == LABELS) {
        float label = value_of(answer[0]);
        bool known = label >= 0 && label < classes;
        if (!known) {
            faults[NO_LABEL] = 1;
            faults[THE_LABEL] = (int)label;
        } else if (label == (int)label) {
            sums[apart * (int)label] += weight;
        }
        return;
    }
    float highest = 0, total = 0;
    if (activation == SOFTMAX) {
        highest = value_of(answer[0]);
        for (int c = 1; c < classes; ++c) {
            float value = value_of(answer[step * c]);
            highest = value > highest ? value : highest;
        }
        for (int c = 0; c < classes; ++c) total += expf(value_of(answer[step * c]) - highest);
    }
    for (int c = 0; c < classes; ++c) {
        float score = value_of(answer[step * c]);
        if (activation == SOFTMAX) score = expf(score - highest) / total;
        if (activation == SIGMOID) score = (tanhf(0.5f * score) + 1) * 0.5f;
        sums[apart * c] += score * weight;
    }
}

// All windows begin at the same slice; threads are the voxels of the box that holds them all.
template <typename Value>
__device__ static void add(const Value *answer, Step step_window, Step step_class, Step step_z, Step step_y,
                           Step step_x, const Window *windows, int count, const float *weights, int depth,
                           int height, int width, int classes, int activation, float *sums, int rows,
                           int columns, int box_y, int box_x, int box_rows, int box_columns, int *faults) {
    unsigned int n = thread();
    int column = n % box_columns + box_x, row = n / box_columns % box_rows + box_y;
    int slice = n / box_columns / box_rows;
    if (slice >= depth) return;
    Step apart = (Step)depth * rows * columns;
    float *sum = sums + ((Step)((windows[0].z + slice) % depth) * rows + row) * columns + column;
    float weighed = sum[apart * classes];
    for (int i = 0; i < count; ++i) {
        Window window = windows[i];
        int y = row - window.y, x = column - window.x;
        if (y < 0 || y >= height || x < 0 || x >= width) continue;
        float weight = weights[((Step)slice * height + y) * width + x];
        const Value *at = answer + step_window * i + step_z * turned(slice, depth, window.mirrored, 0) +
                          step_y * turned(y, height, window.mirrored, 1) +
                          step_x * turned(x, width, window.mirrored, 2);
        add_scores(at, step_class, classes, activation, weight, sum, apart, faults);
        weighed += weight;
    }
    sum[apart * classes] = weighed;
}

#define ADD(name, Value)                                                                                      \
    extern "C" __global__ void name(                                                                          \
        const Value *answer, Step step_window, Step step_class, Step step_z, Step step_y, Step step_x,        \
        const Window *windows, int count, const float *weights, int depth, int height, int width, int classes, \
        int activation, float *sums, int rows, int columns, int box_y, int box_x, int box_rows,               \
        int box_columns, int *faults) {                                                                       \
        add(answer, step_window, step_class, step_z, step_y, step_x, windows, count, weights, depth, height,  \
            width, classes, activation, sums, rows, columns, box_y, box_x, box_rows, box_columns, faults);    \
    }

ADD(add_float32, float)
ADD(add_float16, Half)
ADD(add_uint8, unsigned char)
ADD(add_int32, int)
ADD(add_int64, long long)

// Divide the sums of some slices by their weights, and make them 0 again. What lies within the image, from slice
// `first` to before `last`, goes to `out`.
extern "C" __global__ void divide(float *sums, int classes, int depth, int rows, int columns, int start,
                                  int count, int first, int last, int before_y, int before_x, int out_rows,
                                  int out_columns, float *out, Step out_class, Step out_z, Step out_y,
                                  int *faults) {
    unsigned int n = thread();
    int column = n % columns, row = n / columns % rows, slice = n / columns / rows;
    if (slice >= count) return;
    slice += start;
    Step apart = (Step)depth * rows * columns;
    float *sum = sums + ((Step)(slice % depth) * rows + row) * columns + column;
    int y = row - before_y, x = column - before_x;
    bool inside = slice >= first && slice < last && y >= 0 && y < out_rows && x >= 0 && x < out_columns;
    float total = sum[apart * classes];
    for (int c = 0; c < classes; ++c) {
        if (inside) {
            float score = sum[apart * c] / total;
            out[out_class * c + out_z * (slice - first) + out_y * y + x] = score;
            if (!isfinite(score)) faults[NOT_FINITE] = 1;
        }
        sum[apart * c] = 0;
    }
    sum[apart * classes] = 0;
}
