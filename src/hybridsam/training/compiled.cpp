// Mean squared error and its gradient in one pass, for fully connected networks with ReLU and a member axis: of a network
// as it is, and of a network inside a vector field that is integrated by the classical Runge-Kutta method, with the
// gradient by the discrete adjoint. Also, in two calls, convolutional networks on a grid.
//
// A unit of work is (member, part of its samples), treated in blocks of rows, so that activations stay in the cache and
// memory does not grow with the members. Sums have the same order whatever the number of members or threads.
//
// Before this text stand the type Real and one of MAP, GRID and FIELD, the part to compile; with FIELD also N_X, N_THETA,
// N_G, field and field_gradient, which hybridsam.models.symbolic writes from the science. Matrices are row-major; columns
// beyond the last, up to whole vectors, are zero.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE = 14;  // a tile of TILE rows and two vectors of columns fills the registers
#elif defined(__AVX__)
constexpr int BYTES = 32, TILE = 6;
#elif defined(__aarch64__)
constexpr int BYTES = 16, TILE = 12;
#else
constexpr int BYTES = 16, TILE = 6;
#endif
constexpr int LANES = BYTES / sizeof(Real);
constexpr int PARTS = 4;                                     // of a member's samples, which threads share
constexpr int ROLLOUT_ROWS = 2 * TILE, MAP_ROWS = 7 * TILE;  // in a block
constexpr size_t ACTIVATIONS = 48 << 20;  // bytes; the steps of a longer rollout are computed again, going back
typedef Real Vector __attribute__((vector_size(BYTES), aligned(alignof(Real))));

static Vector& at(Real* p) { return *reinterpret_cast<Vector*>(p); }
static Vector at(const Real* p) { return *reinterpret_cast<const Vector*>(p); }
static long padded(long columns) { return (columns + LANES - 1) / LANES * LANES; }
// Rows a power of two apart would fall on the same lines of the cache.
static long row_length(long columns) { return padded(columns) + (padded(columns) % 64 ? 0 : LANES); }

// Aligned memory that grows and is used again; its content is undefined.
class Array {
    Real* data = nullptr;
    size_t capacity = 0;

public:
    Array() = default;
    Array(const Array&) = delete;
    ~Array() { std::free(data); }
    Real* of(size_t n) {
        if (n > capacity) {
            std::free(data);
            capacity = (n * sizeof(Real) + 63) / 64 * 64 / sizeof(Real);
            data = static_cast<Real*>(std::aligned_alloc(64, capacity * sizeof(Real)));
        }
        return data;
    }
    Real* zeros(size_t n) { return std::fill_n(of(n), n, Real(0)), data; }
};

// ---- matrix products

struct Matrix {  // element (i, j) is data[i * row + j * column]; several such blocks, `block` apart, follow one another in j
    const Real* data;
    long row, column;
    int blocks = 1;
    long block = 0;
};

enum Mode { AFFINE, RELU, PRODUCT, MASKED, ADD };  // aux + A B, its positive part, A B, A B where aux > 0, C + A B

struct Product {  // each block of A is (rows, depth), B is (blocks * depth, columns); rows of B and C are ldb and ldc apart
    Mode mode;
    int depth;
    Matrix A;
    const Real* B;
    long ldb;
    Real* C;
    long ldc;
    const Real* aux;  // a row for AFFINE and RELU, like C for MASKED
};

// R rows and COLUMNS vectors of a product, beginning at the places given.
template <int R, int COLUMNS> static void tile(const Product& p, const Real* A, const Real* B, Real* C, const Real* aux) {
    Vector c[R][COLUMNS];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < COLUMNS; v++)
            c[r][v] = p.mode == ADD                        ? at(C + r * p.ldc + v * LANES)
                      : p.mode == AFFINE || p.mode == RELU ? at(aux + v * LANES)
                                                           : Vector{};
    const long row = p.A.row, column = p.A.column, ldb = p.ldb;
    for (int block = 0; block < p.A.blocks; block++, A += p.A.block)
        for (int k = 0; k < p.depth; k++, B += ldb) {
            Vector b[COLUMNS];
            for (int v = 0; v < COLUMNS; v++) b[v] = at(B + v * LANES);
            for (int r = 0; r < R; r++) {
                const Real a = A[r * row + k * column];
                for (int v = 0; v < COLUMNS; v++) c[r][v] += a * b[v];
            }
        }
    const Vector zero = {};
    for (int r = 0; r < R; r++)
        for (int v = 0; v < COLUMNS; v++) {
            Vector& value = c[r][v];
            if (p.mode == RELU) value = value < zero ? zero : value;  // not-a-number stays
            if (p.mode == MASKED) value = at(aux + r * p.ldc + v * LANES) <= zero ? zero : value;
            at(C + r * p.ldc + v * LANES) = value;
        }
}

template <int COLUMNS, int... R> static auto tile_of(int rows, std::integer_sequence<int, R...>) {
    static constexpr auto tiles = std::array{tile<R + 1, COLUMNS>...};
    return tiles[rows - 1];
}

// C (rows, columns) from A (rows, depth) and B (depth, columns). A tile takes the product by reference and the places in
// registers: copied through the stack in vectors, they would wait for all results of the tile before (an eighth of the time).
static void multiply(int rows, int columns, const Product& p) {
    constexpr std::make_integer_sequence<int, TILE> sizes;
    const int tiles = (rows + TILE - 1) / TILE;
    for (long j = 0; j < padded(columns); j += 2 * LANES) {
        const bool two = padded(columns) - j >= 2 * LANES;
        for (int i = 0; i < tiles; i++) {
            const long first = (long)rows * i / tiles, n = (long)rows * (i + 1) / tiles - first;
            const Real* aux = !p.aux ? nullptr : p.mode == MASKED ? p.aux + first * p.ldc + j : p.aux + j;
            const auto of_n_rows = two ? tile_of<2>(n, sizes) : tile_of<1>(n, sizes);
            of_n_rows(p, p.A.data + first * p.A.row, p.B + j, p.C + first * p.ldc + j, aux);
        }
    }
}

static Real total(const Vector& values) {
    Real lanes[LANES], sum = 0;
    at(lanes) = values;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

static bool is_narrow(int columns) { return columns <= LANES / 4; }

// C (rows, columns) = aux + A B' for few columns: scalar products of rows of A and of B, whole vectors long.
static void scalar_products(int rows, int columns, int depth, const Real* A, long lda, const Real* B, long ldb, Real* C,
                            long ldc, const Real* aux) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < columns; j++) {
            Vector sums = {};
            for (int k = 0; k < depth; k += LANES) sums += at(A + r * lda + k) * at(B + j * ldb + k);
            C[r * ldc + j] = (aux ? aux[j] : 0) + total(sums);
        }
}

// ---- the network of one member

static void transpose(int rows, int columns, const Real* from, long ld_from, Real* to, long ld_to) {
    constexpr int SIDE = 16;  // squares that the cache holds
    for (int i = 0; i < rows; i += SIDE)
        for (int j = 0; j < columns; j += SIDE)
            for (int r = i; r < std::min(i + SIDE, rows); r++)
                for (int c = j; c < std::min(j + SIDE, columns); c++) to[c * ld_to + r] = from[r * ld_from + c];
}

struct Layer {
    int in, out;
    long ld_in, ld_out;               // lengths of rows
    Real *forward, *backward, *bias;  // weights (in, out) and (out, in)
    bool transposed;                  // gradient of the weights (out, in), which wastes fewer vectors if out is small
    Real *g_weight, *g_bias;
    Array memory[5];
};

// A network of fully connected layers with ReLU between them, and the activations of some rows.
// Rows of activations and deltas are row_length(out) long.
struct Network {
    std::vector<Layer> layers;
    std::vector<Real*> activations, deltas;  // of each layer: outputs, and gradients for what its ReLU is applied to

    void prepare(int n, const int* sizes) {
        if ((int)layers.size() != n) layers = std::vector<Layer>(n);
        activations.resize(n), deltas.resize(n);
        for (int i = 0; i < n; i++) {
            Layer& l = layers[i];
            l.in = sizes[i], l.out = sizes[i + 1];
            l.ld_in = row_length(l.in), l.ld_out = row_length(l.out);
        }
    }
    const Layer& first() const { return layers.front(); }
    const Layer& last() const { return layers.back(); }
    long parameters() const {
        long n = 0;
        for (const Layer& l : layers) n += (long)(l.in + 1) * l.out;
        return n;
    }

    // phi: for each layer the weight (out, in), then the bias.
    void load(const Real* phi) {
        for (Layer& l : layers) {
            l.transposed = l.out < l.in;
            l.forward = l.memory[0].zeros(l.in * l.ld_out);
            l.g_weight = l.memory[1].zeros(l.transposed ? l.out * l.ld_in : l.in * l.ld_out);
            l.backward = l.memory[2].zeros(l.out * l.ld_in);
            l.bias = l.memory[3].zeros(l.ld_out), l.g_bias = l.memory[4].zeros(l.ld_out);
            transpose(l.out, l.in, phi, l.in, l.forward, l.ld_out);
            for (int o = 0; o < l.out; o++, phi += l.in) std::copy_n(phi, l.in, l.backward + o * l.ld_in);
            std::copy_n(phi, l.out, l.bias);
            phi += l.out;
        }
    }
    // Add the gradient to g, which is like phi.
    void add_gradient_to(Real* g) {
        for (Layer& l : layers) {
            Real* t = l.g_weight;
            if (!l.transposed) transpose(l.in, l.out, l.g_weight, l.ld_out, t = l.backward, l.ld_in);  // done with backward
            for (int o = 0; o < l.out; o++)
                for (int i = 0; i < l.in; i++) *g++ += t[o * l.ld_in + i];
            for (int o = 0; o < l.out; o++) *g++ += l.g_bias[o];
        }
    }

    // Rows of x, ldx apart, through layers i to the last but `before`; their outputs go to the activations from row_of(i) on.
    template <typename RowOf> void forward(int rows, const Real* x, long ldx, const RowOf& row_of, size_t end) {
        Matrix A = {x, ldx, 1};
        for (size_t i = 0; i < end; i++) {
            Layer& l = layers[i];
            Real* C = activations[i] + row_of(i) * l.ld_out;
            if (i + 1 < layers.size())
                multiply(rows, l.out, {RELU, l.in, A, l.forward, l.ld_out, C, l.ld_out, l.bias});
            else if (i && is_narrow(l.out))
                scalar_products(rows, l.out, l.in, A.data, A.row, l.backward, l.ld_in, C, l.ld_out, l.bias);
            else
                multiply(rows, l.out, {AFFINE, l.in, A, l.forward, l.ld_out, C, l.ld_out, l.bias});
            A = {C, l.ld_out, 1};
        }
    }
    // Fills the deltas from row `delta_row` on, of which those of the last layer are given.
    template <typename RowOf> void backward(int rows, const RowOf& row_of, long delta_row) {
        for (size_t i = layers.size() - 1; i > 0; i--) {
            Layer& l = layers[i];
            Matrix A = {deltas[i] + delta_row * l.ld_out, l.ld_out, 1};
            multiply(rows, l.in,
                     {MASKED, l.out, A, l.backward, l.ld_in, deltas[i - 1] + delta_row * l.ld_in, l.ld_in,
                      activations[i - 1] + row_of(i - 1) * l.ld_in});
        }
    }
    // Gradient for the first components of x; rows of g_x are row_length(in) long.
    void gradient_of_input(int rows, int components, long delta_row, Real* g_x) {
        Layer& l = layers[0];
        Matrix A = {deltas[0] + delta_row * l.ld_out, l.ld_out, 1};
        if (is_narrow(components))
            scalar_products(rows, components, l.out, A.data, A.row, l.forward, l.ld_out, g_x, l.ld_in, nullptr);
        else
            multiply(rows, components, {PRODUCT, l.out, A, l.backward, l.ld_in, g_x, l.ld_in, nullptr});
    }
    // Add what these rows give to the gradient of weights and biases; x has rows of ldx numbers, with zeros up to a vector.
    template <typename RowOf> void add_rows(int rows, const Real* x, long ldx, const RowOf& row_of) {
        const Real* input = x;
        for (size_t i = 0; i < layers.size(); i++) {
            Layer& l = layers[i];
            if (l.transposed)
                multiply(l.out, l.in, {ADD, rows, {deltas[i], 1, l.ld_out}, input, ldx, l.g_weight, l.ld_in, nullptr});
            else
                multiply(l.in, l.out, {ADD, rows, {input, 1, ldx}, deltas[i], l.ld_out, l.g_weight, l.ld_out, nullptr});
            for (long j = 0; j < padded(l.out); j += LANES) {
                Vector sum = at(l.g_bias + j);
                for (int r = 0; r < rows; r++) sum += at(deltas[i] + r * l.ld_out + j);
                at(l.g_bias + j) = sum;
            }
            input = activations[i] + row_of(i) * l.ld_out, ldx = l.ld_out;
        }
    }
};

// ---- units of work

// The parts of all members, of about `block` rows where PARTS allow, shared by threads; what parts add up is added in their
// order.
class Parts {
    const int members, parts, rows;
    std::atomic<int> next{0};
    std::vector<std::atomic<int>> turn;

public:
    Parts(int members, int rows, int block)
        : members(members), parts(std::clamp((rows + block - 1) / block, 1, PARTS)), rows(rows), turn(members) {}

    // compute(member, first row, number of rows) returns a function that adds its results to the member's.
    template <typename Compute> void run(int threads, const Compute& compute) {
        auto work = [&] {
            for (int u; (u = next++) < members * parts;) {
                const int member = u / parts, part = u % parts;
                const int first = (long)rows * part / parts, end = (long)rows * (part + 1) / parts;
                auto add = compute(member, first, end - first);
                while (turn[member] != part) std::this_thread::yield();
                add();
                turn[member]++;
            }
        };
        std::vector<std::thread> others;
        for (int i = 1; i < std::min(threads, members * parts); i++) others.emplace_back(work);
        work();
        for (std::thread& thread : others) thread.join();
    }
};

// Blocks of about `size` rows, of equal length.
template <typename Block> static void for_blocks(int first, int rows, int size, const Block& block) {
    const int n = (rows + size - 1) / size;
    for (int i = 0; i < n; i++) {
        const int a = (long)rows * i / n, b = (long)rows * (i + 1) / n;
        block(first + a, b - a);
    }
}

// ---- a network as it is

#ifdef MAP
// error[m] = mean (g([x, beside]; phi) - y)^2 over the samples and components of member m.
// sizes: of the layers, the first is that of x and beside together. x (member, samples, n_x), beside
// (member or 1, samples, rest) and y (member or 1, samples, out), beside_member and y_member numbers apart. Gradients, where
// not null: g_phi like phi (filled with zeros), g_x like x, g_y (member, samples, out).
extern "C" void map_error(int members, int samples, int n_layers, const int* sizes, int n_x, const Real* x, const Real* beside,
                          long beside_member, const Real* y, long y_member, const Real* phi, Real* error, Real* g_phi,
                          Real* g_x, Real* g_y, int threads) {
    struct Work {
        Network network;
        Array x, g_x;
        std::vector<Array> memory;
    };
    const int n_in = sizes[0], n_out = sizes[n_layers], n_beside = n_in - n_x;
    const bool backward = g_phi || g_x;
    std::vector<double> sums(members);

    Parts(members, samples, 4 * MAP_ROWS).run(threads, [&](int m, int first, int rows) {
        static thread_local Work work;
        Network& net = work.network;
        net.prepare(n_layers, sizes);
        net.load(phi + m * net.parameters());
        const long ld_in = net.first().ld_in, ld_out = net.last().ld_out;
        if ((int)work.memory.size() != 2 * n_layers) work.memory = std::vector<Array>(2 * n_layers);
        const int most = std::min(rows, MAP_ROWS);
        for (int i = 0; i < n_layers; i++) {
            net.activations[i] = work.memory[2 * i].of(most * net.layers[i].ld_out);
            net.deltas[i] = work.memory[2 * i + 1].zeros(most * net.layers[i].ld_out);
        }
        Real *in = work.x.of(most * ld_in), *g_in = work.g_x.of(most * ld_in);
        double sum = 0;
        for_blocks(first, rows, MAP_ROWS, [&](int row, int n) {
            for (int r = 0; r < n; r++) {
                std::copy_n(x + ((long)m * samples + row + r) * n_x, n_x, in + r * ld_in);
                std::copy_n(beside + m * beside_member + (long)(row + r) * n_beside, n_beside, in + r * ld_in + n_x);
            }
            const auto at_zero = [](size_t) { return 0L; };
            net.forward(n, in, ld_in, at_zero, net.layers.size());
            for (int r = 0; r < n; r++) {
                const Real* truth = y + m * y_member + (long)(row + r) * n_out;
                const Real* found = net.activations.back() + r * ld_out;
                Real* delta = net.deltas.back() + r * ld_out;
                for (int j = 0; j < n_out; j++) {
                    const Real e = found[j] - truth[j];
                    sum += (double)e * e;
                    delta[j] = 2 * e / ((Real)samples * n_out);
                    if (g_y) g_y[((long)m * samples + row + r) * n_out + j] = -delta[j];
                }
            }
            if (!backward) return;
            net.backward(n, at_zero, 0);
            if (g_phi) net.add_rows(n, in, ld_in, at_zero);
            if (!g_x) return;
            net.gradient_of_input(n, n_x, 0, g_in);
            for (int r = 0; r < n; r++) std::copy_n(g_in + r * ld_in, n_x, g_x + ((long)m * samples + row + r) * n_x);
        });
        return [&, m, sum] {
            sums[m] += sum;
            if (g_phi) net.add_gradient_to(g_phi + m * net.parameters());
        };
    });
    for (int m = 0; m < members; m++) error[m] = sums[m] / ((double)samples * n_out);
}

#endif

// ---- convolutions on a grid

#ifdef GRID
// 3 x 3 convolutions that keep the size, with BatchNorm (by the batch at hand) and ReLU between them. Images have their
// channels last; those that are convolved have a border of zeros, so that a row of pixels is a matrix of which each row
// is a pixel with its neighbours, three of them in a line.
struct Grid {
    const int samples, height, width, layers;
    const int* channels;
    long pixels() const { return (long)height * width; }
    long line(int c) const { return (long)(width + 2) * c; }
    // Numbers in an image with border, and as many more as a vector may read beyond it.
    long bordered(int c) const { return (height + 2) * line(c) + 3 * LANES; }
    Real* inside(Real* image, int y, int c) const { return image + (y + 1) * line(c) + c; }
};

struct Convolution {
    int in, out;
    const Real *weight, *bias, *gamma, *beta;  // weight (out, in, 3, 3); gamma and beta of the BatchNorm after it
};

static std::vector<Convolution> convolutions(const Grid& grid, const Real* phi) {
    std::vector<Convolution> found(grid.layers);
    for (int i = 0; i < grid.layers; i++) {
        Convolution& c = found[i];
        c.in = grid.channels[i], c.out = grid.channels[i + 1];
        c.weight = phi, c.bias = phi += 9 * c.in * c.out;
        c.gamma = phi += c.out;
        if (i == grid.layers - 1) break;
        c.beta = phi += c.out;
        phi += c.out;
    }
    return found;
}

// A convolution of bordered images, as products of matrices.
struct Stencil {
    int in, out;
    bool narrow;  // few outputs: scalar products along the inputs
    long ld;
    Real *weight, *bias;  // (3 lines, 3 in, out), or (out, 3 lines, 3 in) where narrow
    Array memory[2];

    // element(o, i, dy, dx): the weight; bias may be null.
    template <typename Element> void prepare(int n_in, int n_out, const Real* from_bias, const Element& element) {
        in = n_in, out = n_out, narrow = out <= LANES / 4, ld = padded(out);
        weight = memory[0].zeros(9 * in * (narrow ? out : ld)), bias = memory[1].zeros(ld);
        if (from_bias) std::copy_n(from_bias, out, bias);
        for (int o = 0; o < out; o++)
            for (int dy = 0; dy < 3; dy++)
                for (int dx = 0; dx < 3; dx++)
                    for (int i = 0; i < in; i++) {
                        const int k = (dy * 3 + dx) * in + i;
                        weight[narrow ? o * 9 * in + k : k * ld + o] = element(o, i, dy, dx);
                    }
    }
    // Line y of the result, (width, out); line: scratch.
    void apply(const Grid& grid, const Real* image, int y, Real* to, Array& line) const {
        const Real* from = image + y * grid.line(in);
        if (!narrow) {
            Real* C = ld == out ? to : line.of(grid.width * ld);
            multiply(grid.width, out, {AFFINE, 3 * in, {from, in, 1, 3, grid.line(in)}, weight, ld, C, ld, bias});
            for (int x = 0; ld != out && x < grid.width; x++) std::copy_n(C + x * ld, out, to + x * out);
            return;
        }
        for (int x = 0; x < grid.width; x++)
            for (int o = 0; o < out; o++) {
                Vector sums = {};
                Real sum = bias[o];
                for (int dy = 0; dy < 3; dy++) {
                    const Real *a = from + dy * grid.line(in) + x * in, *w = weight + (o * 3 + dy) * 3 * in;
                    int k = 0;
                    for (; k + LANES <= 3 * in; k += LANES) sums += at(a + k) * at(w + k);
                    for (; k < 3 * in; k++) sum += a[k] * w[k];
                }
                to[x * out + o] = sum + total(sums);
            }
    }
};

// Arrays that do not overlap, which lets the compiler use vectors; n is that of a line of pixels.
typedef const Real* __restrict In;
typedef Real* __restrict Out;
static void add_to(int n, In values, Out sum) {
    for (int j = 0; j < n; j++) sum[j] += values[j];
}
static void add_squares_to(int n, In values, In mean, Out sum) {
    for (int j = 0; j < n; j++) sum[j] += (values[j] - mean[j]) * (values[j] - mean[j]);
}
static void affine_relu(int n, In values, In scale, In shift, Out to) {
    for (int j = 0; j < n; j++) {
        const Real value = scale[j] * values[j] + shift[j];
        to[j] = value < 0 ? 0 : value;
    }
}
static void through_norm(int n, In g, In z, In k, In mean, In slope, In mean_z, Out to) {
    for (int j = 0; j < n; j++) to[j] = k[j] * (g[j] - mean[j] - slope[j] * (z[j] - mean_z[j]));
}
static void through_relu(int n, In active, In z, In mean_z, Out g, Out product) {
    for (int j = 0; j < n; j++) {
        g[j] = active[j] <= 0 ? 0 : g[j];
        product[j] += g[j] * (z[j] - mean_z[j]);
    }
}

typedef std::vector<Real> Values;
typedef std::vector<double> Sums;

// Values of the channels, for each pixel of a line; and sums over the pixels of a line.
template <typename T> static Values spread(const T* values, int channels, int width) {
    Values line(width * channels);
    for (int x = 0; x < width; x++)
        for (int c = 0; c < channels; c++) line[x * channels + c] = values[c];
    return line;
}
static Sums fold(const Values& line, int channels) {
    Sums sums(channels);
    for (size_t x = 0; x < line.size(); x += channels)
        for (int c = 0; c < channels; c++) sums[c] += line[x + c];
    return sums;
}

// Mean and sum of squared differences to it, of each channel, over pixels that are added in groups (Chan et al. 1979).
struct Statistics {
    double n = 0;
    Sums mean, squares;
    explicit Statistics(int channels) : mean(channels), squares(channels) {}
    void add(double other_n, const Sums& other_mean, const Sums& other_squares) {
        for (size_t c = 0; c < mean.size(); c++) {
            const double difference = other_mean[c] - mean[c];
            mean[c] += difference * other_n / (n + other_n);
            squares[c] += other_squares[c] + difference * difference * n * other_n / (n + other_n);
        }
        n += other_n;
    }
};

constexpr double NORM_EPSILON = 1e-5;  // of torch.nn.functional.batch_norm

struct ConvNet {
    const Grid grid;
    std::vector<Convolution> layers;
    const Real* x;
    std::vector<Real*> z, moments;  // of all layers but the last: results, and their means and inverse standard deviations

    ConvNet(const Grid& grid, const Real* phi, const Real* x, Real* all_z, Real* all_moments)
        : grid(grid), layers(convolutions(grid, phi)), x(x) {
        for (int i = 1; i < grid.layers; i++) {
            z.push_back(all_z), moments.push_back(all_moments);
            all_z += grid.samples * grid.pixels() * grid.channels[i], all_moments += 2 * grid.channels[i];
        }
    }
    const Real* deviations(int i) const { return moments[i] + layers[i].out; }

    // Fill the bordered image that layer i convolves: of samples of x, or of ReLU(BatchNorm(z)) of the layer before it.
    struct Input {
        const ConvNet& net;
        const int i;
        Values scale, shift;
        Input(const ConvNet& net, int i) : net(net), i(i) {
            if (!i) return;
            const Convolution& before = net.layers[i - 1];
            Values a(before.out), b(before.out);
            for (int c = 0; c < before.out; c++) {
                a[c] = before.gamma[c] * net.deviations(i - 1)[c];
                b[c] = before.beta[c] - net.moments[i - 1][c] * a[c];
            }
            scale = spread(a.data(), before.out, net.grid.width), shift = spread(b.data(), before.out, net.grid.width);
        }
        void fill(int n, Real* image) const {
            const Grid& grid = net.grid;
            const int c = net.layers[i].in, pixels = grid.width * c;
            const long line = grid.line(c);
            const Real* from = (i ? net.z[i - 1] : net.x) + n * grid.pixels() * c;
            std::fill_n(image, line, Real(0));
            std::fill(image + (grid.height + 1) * line, image + grid.bordered(c), Real(0));
            for (int row = 0; row < grid.height; row++, from += pixels) {
                Real* to = grid.inside(image, row, c);
                std::fill_n(to - c, c, Real(0)), std::fill_n(to + pixels, c, Real(0));
                if (i)
                    affine_relu(pixels, from, scale.data(), shift.data(), to);
                else
                    std::copy_n(from, pixels, to);
            }
        }
    };

    void forward(int i, Real* to, int threads) {
        const Convolution& layer = layers[i];
        const bool last = i == grid.layers - 1;
        const int pixels = grid.width * layer.out;
        const Input input(*this, i);
        Statistics statistics(layer.out);
        Parts(1, grid.samples, 1).run(threads, [&](int, int first, int rows) {
            static thread_local struct {
                Stencil stencil;
                Array image, line;
            } work;
            work.stencil.prepare(layer.in, layer.out, layer.bias, [&](int o, int in, int dy, int dx) {
                return layer.weight[((o * layer.in + in) * 3 + dy) * 3 + dx];
            });
            Real* image = work.image.of(grid.bordered(layer.in));
            Statistics own(layer.out);
            for (int n = first; n < first + rows; n++) {
                input.fill(n, image);
                Real* values = to + n * grid.pixels() * layer.out;
                for (int row = 0; row < grid.height; row++)
                    work.stencil.apply(grid, image, row, values + row * pixels, work.line);
                if (last) continue;
                Values sum(pixels), squares(pixels);
                for (int row = 0; row < grid.height; row++) add_to(pixels, values + row * pixels, sum.data());
                Sums mean = fold(sum, layer.out);
                for (double& value : mean) value /= grid.pixels();
                const Values of_line = spread(mean.data(), layer.out, grid.width);
                for (int row = 0; row < grid.height; row++)
                    add_squares_to(pixels, values + row * pixels, of_line.data(), squares.data());
                // The squares are those of differences to the rounded mean.
                own.add(grid.pixels(), Sums(of_line.begin(), of_line.begin() + layer.out), fold(squares, layer.out));
            }
            return [&statistics, own] { statistics.add(own.n, own.mean, own.squares); };
        });
        if (last) return;
        for (int c = 0; c < layer.out; c++) {
            moments[i][c] = statistics.mean[c];
            moments[i][layer.out + c] = 1 / std::sqrt(statistics.squares[c] / statistics.n + NORM_EPSILON);
        }
    }

    // Sums over the batch of the gradient for a BatchNorm's output, alone and times its normalised input.
    struct OfNorm {
        Sums g, product;
    };

    // From g, for the result of layer i or, before the last, for its BatchNorm's output: adds to the gradient of the layer's
    // parameters, and fills that of what is before it (x, or a BatchNorm's output), if it is not null.
    OfNorm backward(int i, const Real* g, const OfNorm& of_norm, Real* g_layer, Real* g_in, int threads) {
        const Convolution& layer = layers[i];
        const bool last = i == grid.layers - 1;
        const int pixels = grid.width * layer.out, pixels_in = grid.width * layer.in;
        const Input input(*this, i);
        Values k, mean, slope, mean_z, mean_before;  // delta = k (g - mean - slope (z - mean_z))
        if (!last) {
            const double count = (double)grid.samples * grid.pixels();
            Values of_channel[3] = {Values(layer.out), Values(layer.out), Values(layer.out)};
            for (int c = 0; c < layer.out; c++) {
                const Real deviation = deviations(i)[c];
                of_channel[0][c] = layer.gamma[c] * deviation;
                of_channel[1][c] = of_norm.g[c] / count, of_channel[2][c] = of_norm.product[c] / count * deviation;
            }
            k = spread(of_channel[0].data(), layer.out, grid.width), mean = spread(of_channel[1].data(), layer.out, grid.width);
            slope = spread(of_channel[2].data(), layer.out, grid.width), mean_z = spread(moments[i], layer.out, grid.width);
        }
        if (i) mean_before = spread(moments[i - 1], layer.in, grid.width);
        // Gradient of the weights, for each line of the stencil: (3 in, out), or its transpose if that wastes fewer vectors.
        const bool transposed = layer.out < layer.in;
        const int rows_w = transposed ? layer.out : 3 * layer.in, columns_w = transposed ? 3 * layer.in : layer.out;
        OfNorm result{Sums(layer.in), Sums(layer.in)};

        Parts(1, grid.samples, 1).run(threads, [&](int, int first, int rows) {
            static thread_local struct {
                Stencil stencil;
                Array image, delta, line, g_weight;
            } work;
            work.stencil.prepare(layer.out, layer.in, nullptr, [&](int o, int in, int dy, int dx) {
                return layer.weight[((in * layer.in + o) * 3 + 2 - dy) * 3 + 2 - dx];
            });
            Real *image = work.image.of(grid.bordered(layer.in)), *delta = work.delta.zeros(grid.bordered(layer.out));
            Real* g_weight = work.g_weight.zeros(3 * rows_w * padded(columns_w));
            Sums bias(layer.out);
            OfNorm own{Sums(layer.in), Sums(layer.in)};
            for (int n = first; n < first + rows; n++) {
                Values sum_delta(pixels), sum(pixels_in), product(pixels_in);
                for (int row = 0; row < grid.height; row++) {
                    const long at_line = n * grid.pixels() * layer.out + row * pixels;
                    Real* to = grid.inside(delta, row, layer.out);
                    if (last)
                        std::copy_n(g + at_line, pixels, to);
                    else
                        through_norm(pixels, g + at_line, z[i] + at_line, k.data(), mean.data(), slope.data(), mean_z.data(),
                                     to);
                    add_to(pixels, to, sum_delta.data());
                }
                input.fill(n, image);
                const int depth = grid.height * (grid.width + 2) - 2;  // all pixels; on the border delta is zero
                const Real* inside = grid.inside(delta, 0, layer.out);
                for (int dy = 0; dy < 3; dy++) {
                    const Real* shifted = image + dy * grid.line(layer.in);
                    const Matrix A = transposed ? Matrix{inside, 1, layer.out} : Matrix{shifted, 1, layer.in};
                    multiply(rows_w, columns_w,
                             {ADD, depth, A, transposed ? shifted : inside, transposed ? layer.in : layer.out,
                              g_weight + dy * rows_w * padded(columns_w), padded(columns_w), nullptr});
                }
                for (int row = 0; g_in && row < grid.height; row++) {
                    const long at_line = n * grid.pixels() * layer.in + row * pixels_in;
                    work.stencil.apply(grid, delta, row, g_in + at_line, work.line);
                    if (!i) continue;
                    through_relu(pixels_in, grid.inside(image, row, layer.in), z[i - 1] + at_line, mean_before.data(),
                                 g_in + at_line, product.data());
                    add_to(pixels_in, g_in + at_line, sum.data());
                }
                const Sums of_sample[3] = {fold(sum_delta, layer.out), fold(sum, layer.in), fold(product, layer.in)};
                for (int c = 0; c < layer.out; c++) bias[c] += of_sample[0][c];
                for (int c = 0; i && c < layer.in; c++) {
                    own.g[c] += of_sample[1][c];
                    own.product[c] += of_sample[2][c] * deviations(i - 1)[c];
                }
            }
            return [&, bias, own, g_weight] {
                for (int o = 0; o < layer.out; o++)
                    for (int in = 0; in < layer.in; in++)
                        for (int dy = 0; dy < 3; dy++)
                            for (int dx = 0; dx < 3; dx++) {
                                const int j = dx * layer.in + in, row = transposed ? o : j, column = transposed ? j : o;
                                g_layer[((o * layer.in + in) * 3 + dy) * 3 + dx] +=
                                    g_weight[(dy * rows_w + row) * padded(columns_w) + column];
                            }
                for (int o = 0; o < layer.out; o++) g_layer[9 * layer.in * layer.out + o] += bias[o];
                for (int c = 0; c < layer.in; c++) result.g[c] += own.g[c], result.product[c] += own.product[c];
            };
        });
        return result;
    }
};

// y (sample, y, x, out) from x (sample, y, x, in); phi of one member: for each layer weight, bias, gamma and beta, the last
// without these. Fills z and moments, of all layers but the last: (sample, y, x, out) and (2, out).
extern "C" void convnet_forward(int samples, int height, int width, int n_layers, const int* channels, const Real* x,
                                const Real* phi, Real* z, Real* moments, Real* y, int threads) {
    ConvNet net({samples, height, width, n_layers, channels}, phi, x, z, moments);
    for (int i = 0; i < n_layers; i++) net.forward(i, i == n_layers - 1 ? y : net.z[i], threads);
}

// Gradients g_phi (filled with zeros) and, where not null, g_x from g_y, after convnet_forward with the same x, phi, z and
// moments.
extern "C" void convnet_backward(int samples, int height, int width, int n_layers, const int* channels, const Real* x,
                                 const Real* phi, Real* z, Real* moments, const Real* g_y, Real* g_phi, Real* g_x,
                                 int threads) {
    ConvNet net({samples, height, width, n_layers, channels}, phi, x, z, moments);
    static thread_local Array memory[2];
    const Real* g = g_y;
    ConvNet::OfNorm of_norm;
    for (int i = n_layers - 1; i >= 0; i--) {
        const Convolution& layer = net.layers[i];
        for (int c = 0; i < n_layers - 1 && c < layer.out; c++) {
            g_phi[layer.gamma - phi + c] = of_norm.product[c];
            g_phi[layer.beta - phi + c] = of_norm.g[c];
        }
        Real* g_in = i ? memory[i % 2].of(samples * net.grid.pixels() * layer.in) : g_x;
        of_norm = net.backward(i, g, of_norm, g_phi + (layer.weight - phi), g_in, threads);
        g = g_in;
    }
}

#endif

// ---- a network in a vector field that is integrated

#ifdef FIELD
struct Rollout {  // one block of samples of one member
    Network& net;
    const int rows, steps, segment;  // segment: steps whose activations are kept
    const double* h;                 // lengths of the steps
    const Real* theta;
    Real* states;      // (step + 1, row, N_X)
    Real *stages, *k;  // states at which the field is evaluated, (step of the segment, 4, row, N_X); rates (4, row, N_X)
    Real *g_in, *a;    // gradients for the network's input (row, ...) and the stages (4, row, N_X)

    long per_state() const { return (long)rows * N_X; }

    // Where the activations of stage q of a step begin. Those of the first hidden layer are not kept but computed again:
    // that is a product with N_X inputs only, and halves what goes through memory with two hidden layers.
    auto row_of(int slot, int q) const {
        return [this, slot, q](size_t i) { return (long)(i || net.layers.size() == 1 ? 4 * slot + q : q) * rows; };
    }
    // The field at all rows of x, at stage q of a step.
    void rate(const Real* x, int slot, int q, Real* out) {
        net.forward(rows, x, N_X, row_of(slot, q), net.layers.size());
        const Real* g = net.activations.back() + (long)(4 * slot + q) * rows * net.last().ld_out;
        for (int r = 0; r < rows; r++) field(x + r * N_X, theta, g + r * net.last().ld_out, out + r * N_X);
    }
    void step(int s, int slot) {
        const long n = per_state();
        const Real dt = h[s], reach[4] = {0, dt / 2, dt / 2, dt};
        const Real* x = states + s * n;
        for (int q = 0; q < 4; q++) {
            Real* at_stage = stages + (4 * slot + q) * n;
            for (long i = 0; i < n; i++) at_stage[i] = q ? x[i] + reach[q] * k[(q - 1) * n + i] : x[i];
            rate(at_stage, slot, q, k + q * n);
        }
        Real* next = states + (s + 1) * n;
        for (long i = 0; i < n; i++) next[i] = x[i] + dt / 6 * (k[i] + 2 * (k[n + i] + k[2 * n + i]) + k[3 * n + i]);
    }
    // lambda: gradient for the state after the step, replaced by that for the state before it.
    void step_back(int s, int slot, Real* lambda, double* g_theta) {
        const long n = per_state(), ld_in = net.first().ld_in, ld_g = net.last().ld_out;
        const Real dt = h[s], weight[4] = {dt / 6, dt / 3, dt / 3, dt / 6}, reach[4] = {dt / 2, dt / 2, dt, 0};
        for (int q = 3; q >= 0; q--) {
            const Real* x = stages + (4 * slot + q) * n;
            const long at_row = (long)(4 * slot + q) * rows, delta_row = (long)q * rows;
            for (int r = 0; r < rows; r++) {
                Real l[N_X];
                for (int i = 0; i < N_X; i++) {
                    const long j = r * N_X + i;
                    l[i] = weight[q] * lambda[j] + (q < 3 ? reach[q] * a[(q + 1) * n + j] : 0);
                }
                field_gradient(x + r * N_X, theta, net.activations.back() + (at_row + r) * ld_g, l, a + q * n + r * N_X,
                               g_theta, net.deltas.back() + (delta_row + r) * ld_g);
            }
            if (net.layers.size() > 1) net.forward(rows, x, N_X, row_of(slot, q), 1);
            net.backward(rows, row_of(slot, q), delta_row);
            net.gradient_of_input(rows, N_X, delta_row, g_in);
            for (int r = 0; r < rows; r++)
                for (int i = 0; i < N_X; i++) a[q * n + r * N_X + i] += g_in[r * ld_in + i];
        }
        net.add_rows(4 * rows, stages + 4 * slot * n, N_X, row_of(slot, 0));
        for (long i = 0; i < n; i++) lambda[i] += a[i] + a[n + i] + a[2 * n + i] + a[3 * n + i];
    }
};

// error[m] = mean (x(t) - y(t))^2 over the samples, times and components of member m, where dx/dt = field(x; theta, g(x; phi)).
// sizes: of the network's layers, from N_X to N_G. x (member or 1, samples, N_X): initial states, x_member numbers apart.
// y (member or 1, samples, times, N_X). h (steps): lengths of the steps. observed (steps): the number of the time at the
// step's end, or -1. Gradients, where not null: g_theta like theta, g_phi like phi (filled with zeros).
extern "C" void rollout_error(int members, int samples, int n_layers, const int* sizes, const Real* x, long x_member,
                              const Real* y, long y_member, int times, int steps, const double* h, const int* observed,
                              const Real* theta, const Real* phi, Real* error, Real* g_theta, Real* g_phi, int threads) {
    struct Work {
        Network network;
        Array states, stages, k, g_in, a, lambda, residuals;
        std::vector<Array> memory;
    };
    struct Sum {
        double error = 0, theta[N_THETA + 1] = {};
    };
    std::vector<Sum> sums(members);

    Parts(members, samples, ROLLOUT_ROWS).run(threads, [&](int m, int first, int all_rows) {
        static thread_local Work work;
        Network& net = work.network;
        net.prepare(n_layers, sizes);
        net.load(phi + m * net.parameters());
        if ((int)work.memory.size() != 2 * n_layers) work.memory = std::vector<Array>(2 * n_layers);
        Sum sum;
        for_blocks(first, all_rows, ROLLOUT_ROWS, [&](int row, int rows) {
            long row_bytes = 0;
            for (int i = n_layers > 1; i < n_layers; i++) row_bytes += net.layers[i].ld_out * sizeof(Real);
            const int segment = std::clamp<long>(ACTIVATIONS / (4 * rows * row_bytes), 1, steps);
            for (int i = 0; i < n_layers; i++) {
                const long kept = g_phi && (i || n_layers == 1) ? segment : 1;
                net.activations[i] = work.memory[2 * i].of(4 * kept * rows * net.layers[i].ld_out);
                net.deltas[i] = work.memory[2 * i + 1].zeros(4L * rows * net.layers[i].ld_out);
            }
            const long n = (long)rows * N_X;
            Rollout rollout{net,
                            rows,
                            steps,
                            segment,
                            h,
                            theta + (long)m * N_THETA,
                            work.states.of((steps + 1) * n),
                            work.stages.of(4 * segment * n + LANES),
                            work.k.of(4 * n),
                            work.g_in.of(rows * net.first().ld_in),
                            work.a.of(4 * n)};
            Real *residuals = work.residuals.of((long)times * n), *lambda = work.lambda.zeros(n);
            for (int r = 0; r < rows; r++) std::copy_n(x + m * x_member + (long)(row + r) * N_X, N_X, rollout.states + r * N_X);
            for (int s = 0; s < steps; s++) {
                rollout.step(s, g_phi ? s % segment : 0);
                if (observed[s] < 0) continue;
                for (int r = 0; r < rows; r++)
                    for (int i = 0; i < N_X; i++) {
                        const Real truth = y[m * y_member + ((long)(row + r) * times + observed[s]) * N_X + i];
                        const Real e = rollout.states[(s + 1) * n + r * N_X + i] - truth;
                        sum.error += (double)e * e;
                        residuals[observed[s] * n + r * N_X + i] = 2 * e / ((Real)samples * times * N_X);
                    }
            }
            if (!g_phi) return;
            for (int s = steps - 1; s >= 0; s--) {
                if (s % segment == segment - 1 && s != steps - 1)  // the activations there are those of a later segment
                    for (int again = s + 1 - segment; again <= s; again++) rollout.step(again, again % segment);
                if (observed[s] >= 0)
                    for (long i = 0; i < n; i++) lambda[i] += residuals[observed[s] * n + i];
                rollout.step_back(s, s % segment, lambda, sum.theta);
            }
        });
        return [&, m, sum] {
            sums[m].error += sum.error;
            for (int i = 0; i < N_THETA; i++) sums[m].theta[i] += sum.theta[i];
            if (g_phi) net.add_gradient_to(g_phi + m * net.parameters());
        };
    });
    for (int m = 0; m < members; m++) {
        error[m] = sums[m].error / ((double)samples * times * N_X);
        for (int i = 0; g_theta && i < N_THETA; i++) g_theta[(long)m * N_THETA + i] = sums[m].theta[i];
    }
}
#endif
