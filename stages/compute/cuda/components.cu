// The kernels of stages/components_device.py; stages/components_host.py does the same on the host.
//
// A row of the mask is seen as words of 32 voxels, the last one filled up, and most kernels have a thread for
// each word: bit i of it says whether voxel i is a member. What lies side by side in a row is a run. Runs are
// numbered as they lie in memory, and `runs_up_to` counts, for each word, those that begin in it or before it,
// so that every voxel finds the number of its run.
//
// parent[run] is an earlier run of the same component. The first run of a component is its root: there stands
// -1 - amount instead, where the amount is 0, then the voxels of the component or 1 for one that is marked.
//
// Threads may come in any order, and read what is no longer true:
// - a link leads to an earlier run, and only a compare-and-swap links a root, so none is lost or makes a ring;
// - a run that is linked never becomes a root again, and its link only changes to a run further up, which was
//   and remains of the same component: whatever was read once leads to the root, only on a longer way;
// - who takes for a root what no longer is one fails to swap it, learns its link, and goes on from there.

typedef unsigned char Voxel;
typedef unsigned int Word;
typedef unsigned long long Long;
typedef long long Step;

struct Set {
    Long values[4];  // a bit for each of the 256 values of a voxel
};

__device__ static Word thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

__device__ static bool holds(const Set &set, Word value) {
    Long low = value & 64 ? set.values[1] : set.values[0], high = value & 64 ? set.values[3] : set.values[2];
    return ((value & 128 ? high : low) >> (value & 63)) & 1;
}

// Which of up to 32 voxels are members, the first one as the lowest bit.
__device__ static Word members_at(const Voxel *at, Step step, int count, const Set &set) {
    Word found = 0;
    if (step == 1 && count == 32 && ((Long)at & 3) == 0) {
        Word four[8];
        for (int n = 0; n < 8; ++n) four[n] = ((const Word *)at)[n];
        for (int n = 0; n < 8; ++n) {
            if (four[n] == 0) {
                found |= (Word)(set.values[0] & 1 ? 15 : 0) << 4 * n;
            } else {
                for (int i = 0; i < 4; ++i) {
                    found |= (Word)holds(set, four[n] >> 8 * i & 255) << (4 * n + i);
                }
            }
        }
    } else {
        for (int n = 0; n < count; ++n) found |= (Word)holds(set, at[step * n]) << n;
    }
    return found;
}

struct WordPlace {
    Word word, in_row, row, slice;  // of the word among all, in its row; of the row in its slice
    int columns;                    // in this word
};

__device__ static WordPlace place_of(Word word, int rows, int columns) {
    Word words = (columns + 31) / 32, line = word / words, in_row = word % words;
    int behind = columns - 32 * (int)in_row;
    return WordPlace{word, in_row, line % rows, line / rows, behind < 32 ? behind : 32};
}

__device__ static bool is_outside(Word word, int slices, int rows, int columns) {
    return word >= (Word)slices * rows * ((columns + 31) / 32);
}

// The ones that lie side by side from a bit on; none if there is none.
__device__ static Word ones_from(Word bits, int first) {
    return bits & ~(bits + (1u << first));
}

__device__ static int lowest(Word bits) { return __ffs(bits) - 1; }

// The bit of the voxel before a word's first one; 0 at the row's begin.
__device__ static Word before(const Word *bits, Word word, Word in_row) {
    return in_row > 0 ? bits[word - 1] >> 31 : 0;
}

__device__ static int run_at(const Word *bits, const int *runs_up_to, Word word, Word in_row, int bit) {
    Word here = bits[word], begin = here & ~(here << 1 | before(bits, word, in_row));
    return runs_up_to[word] - 1 - __popc(begin & ~((2u << bit) - 1));
}

__device__ static int root_of(int *parent, int run) {
    volatile int *link = parent;
    for (int next = link[run]; next >= 0; next = link[run]) {
        int after = link[next];
        if (after < 0) return next;
        link[run] = after;
        run = after;
    }
    return run;
}

__device__ static void join(int *parent, int one, int other) {
    one = root_of(parent, one);
    other = root_of(parent, other);
    while (one != other) {
        int later = one > other ? one : other, earlier = one > other ? other : one;
        int link = atomicCAS(parent + later, -1, earlier);
        if (link < 0) return;
        one = root_of(parent, link);
        other = earlier;
    }
}

__device__ static void mark(int *parent, int run) {
    volatile int *amount = parent + root_of(parent, run);
    if (*amount != -2) *amount = -2;
}

extern "C" __global__ void find_runs(const Voxel *mask, Step step_z, Step step_y, Step step_x, int slices,
                                     int rows, int columns, Long values_0, Long values_64, Long values_128,
                                     Long values_192, Word *bits, int *runs) {
    if (is_outside(thread(), slices, rows, columns)) return;
    Set set = {{values_0, values_64, values_128, values_192}};
    WordPlace place = place_of(thread(), rows, columns);
    const Voxel *at = mask + step_z * place.slice + step_y * place.row + step_x * 32 * place.in_row;
    Word here = members_at(at, step_x, place.columns, set);
    Word left = here && place.in_row > 0 && holds(set, at[-step_x]);
    bits[place.word] = here;
    runs[place.word] = __popc(here & ~(here << 1 | left));
}

// Link each run to one that it touches in the slice before, or else in the row above: most of the work,
// without a single atomic operation.
extern "C" __global__ void begin_components(const Word *bits, const int *runs_up_to, int slices, int rows,
                                            int columns, int *parent) {
    if (is_outside(thread(), slices, rows, columns)) return;
    Word here = bits[thread()];
    if (here == 0) return;
    WordPlace place = place_of(thread(), rows, columns);
    Word words = (columns + 31) / 32, back = place.word - words * rows, up = place.word - words;
    Word in_back = place.slice > 0 ? here & bits[back] : 0, in_up = place.row > 0 ? here & bits[up] : 0;
    Word begin = here & ~(here << 1 | before(bits, place.word, place.in_row));
    int run = runs_up_to[place.word] - __popc(begin);
    for (; begin; begin &= begin - 1, ++run) {
        Word ones = ones_from(here, lowest(begin));
        if (ones & in_back) {
            parent[run] = run_at(bits, runs_up_to, back, place.in_row, lowest(ones & in_back));
        } else if (ones & in_up) {
            parent[run] = run_at(bits, runs_up_to, up, place.in_row, lowest(ones & in_up));
        } else {
            parent[run] = -1;
        }
    }
}

// Join the runs that touch in two words; once, where they go on touching from one voxel to the next.
__device__ static void join_words(const Word *bits, const int *runs_up_to, int *parent, WordPlace place,
                                  Word other) {
    Word both = bits[place.word] & bits[other];
    if (both == 0) return;
    Word left = before(bits, place.word, place.in_row) & before(bits, other, place.in_row);
    for (Word begin = both & ~(both << 1 | left); begin; begin &= begin - 1) {
        join(parent, run_at(bits, runs_up_to, place.word, place.in_row, lowest(begin)),
             run_at(bits, runs_up_to, other, place.in_row, lowest(begin)));
    }
}

extern "C" __global__ void join_runs(const Word *bits, const int *runs_up_to, int slices, int rows,
                                     int columns, int *parent) {
    if (is_outside(thread(), slices, rows, columns) || bits[thread()] == 0) return;
    WordPlace place = place_of(thread(), rows, columns);
    Word words = (columns + 31) / 32;
    if (place.slice > 0) join_words(bits, runs_up_to, parent, place, place.word - words * rows);
    if (place.row > 0) join_words(bits, runs_up_to, parent, place, place.word - words);
}

// Add the voxels of each run to the amount of its component.
extern "C" __global__ void measure(const Word *bits, const int *runs_up_to, int slices, int rows, int columns,
                                   int *parent) {
    if (is_outside(thread(), slices, rows, columns)) return;
    Word here = bits[thread()];
    if (here == 0) return;
    WordPlace place = place_of(thread(), rows, columns);
    Word words = (columns + 31) / 32, end = place.word - place.in_row + words;
    Word begin = here & ~(here << 1 | before(bits, place.word, place.in_row));
    int run = runs_up_to[place.word] - __popc(begin);
    for (; begin; begin &= begin - 1, ++run) {
        Word ones = ones_from(here, lowest(begin));
        int voxels = __popc(ones);
        for (Word next = place.word + 1; ones >> 31 && next < end; ++next) {
            ones = ones_from(bits[next], 0);
            voxels += __popc(ones);
        }
        int root = root_of(parent, run);
        if (root != run) parent[run] = root;
        atomicAdd(parent + root, -voxels);
    }
}

// Find the component with the largest amount, the first of several: the amount, and below it how early it is.
extern "C" __global__ void find_largest(const int *parent, int runs, Long *largest) {
    Word run = thread();
    if (run >= (Word)runs || parent[run] >= 0) return;
    Long found = (Long)(-1 - parent[run]) << 32 | ~run;
    if (found > *(volatile Long *)largest) atomicMax(largest, found);
}

// Give the largest component the largest amount that there is.
extern "C" __global__ void choose_largest(int *parent, const Long *largest) {
    if (thread() == 0) parent[~(Word)*largest] = -2147483647 - 1;
}

// Mark the components that have one of the values beside them, over a face.
extern "C" __global__ void mark_touching(const Word *bits, const int *runs_up_to, int slices, int rows,
                                         int columns, int *parent, const Voxel *mask, Step step_z, Step step_y,
                                         Step step_x, Long values_0, Long values_64, Long values_128,
                                         Long values_192) {
    if (is_outside(thread(), slices, rows, columns)) return;
    Word here = bits[thread()];
    if (here == 0) return;
    Set set = {{values_0, values_64, values_128, values_192}};
    WordPlace place = place_of(thread(), rows, columns);
    const Voxel *at = mask + step_z * place.slice + step_y * place.row + step_x * 32 * place.in_row;
    int count = place.columns;
    Word beside = members_at(at, step_x, count, set) & ~here;
    Word near = beside << 1 | beside >> 1;
    if (place.in_row > 0 && !before(bits, place.word, place.in_row)) near |= holds(set, at[-step_x]);
    if (32 * (int)place.in_row + 32 < columns && !(bits[place.word + 1] & 1)) {
        near |= (Word)holds(set, at[step_x * 32]) << 31;
    }
    if (place.row > 0) near |= members_at(at - step_y, step_x, count, set);
    if ((int)place.row < rows - 1) near |= members_at(at + step_y, step_x, count, set);
    if (place.slice > 0) near |= members_at(at - step_z, step_x, count, set);
    if ((int)place.slice < slices - 1) near |= members_at(at + step_z, step_x, count, set);
    for (Word begin = here & ~(here << 1); begin; begin &= begin - 1) {
        if (ones_from(here, lowest(begin)) & near) {
            mark(parent, run_at(bits, runs_up_to, place.word, place.in_row, lowest(begin)));
        }
    }
}

// Mark the components that reach a face of the mask.
extern "C" __global__ void mark_open(const Word *bits, const int *runs_up_to, int slices, int rows,
                                     int columns, int *parent) {
    if (is_outside(thread(), slices, rows, columns)) return;
    Word here = bits[thread()];
    if (here == 0) return;
    WordPlace place = place_of(thread(), rows, columns);
    Word face = 0;
    if (place.slice == 0 || (int)place.slice == slices - 1 || place.row == 0 || (int)place.row == rows - 1) {
        face = here;
    } else {
        if (place.in_row == 0) face |= 1;
        if (32 * (int)place.in_row + place.columns == columns) face |= 1u << (place.columns - 1);
    }
    for (Word begin = here & ~(here << 1); begin; begin &= begin - 1) {
        if (ones_from(here, lowest(begin)) & face) {
            mark(parent, run_at(bits, runs_up_to, place.word, place.in_row, lowest(begin)));
        }
    }
}

// Give a value to the voxels of components with less than an amount; if it is asked for, only to those of 0.
extern "C" __global__ void paint(const Word *bits, const int *runs_up_to, int slices, int rows, int columns,
                                 int *parent, Voxel *mask, Step step_z, Step step_y, Step step_x, int amount,
                                 int value, int ground_only) {
    if (is_outside(thread(), slices, rows, columns)) return;
    Word here = bits[thread()];
    if (here == 0) return;
    WordPlace place = place_of(thread(), rows, columns);
    Voxel *at = mask + step_z * place.slice + step_y * place.row + step_x * 32 * place.in_row;
    for (Word begin = here & ~(here << 1); begin; begin &= begin - 1) {
        int run = run_at(bits, runs_up_to, place.word, place.in_row, lowest(begin));
        if (-1 - parent[root_of(parent, run)] >= amount) continue;
        for (Word ones = ones_from(here, lowest(begin)); ones; ones &= ones - 1) {
            Voxel *voxel = at + step_x * lowest(ones);
            if (!ground_only || *voxel == 0) *voxel = (Voxel)value;
        }
    }
}
