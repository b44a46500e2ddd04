// The whole step of a per-parameter rule on one tensor, for processors: see native.py.
//
// Three walks over the entries, each once through memory: sums of g² along rows and columns;
// running means, and the sum of squares of every feature; features, network and step. A tile of
// entries goes through all layers while it is in the first-level cache. What is summed is cut by
// the shape alone, so that results do not depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

#if defined(__AVX512F__)
constexpr int kLanes = 16, kColumns = 4;
#elif defined(__AVX__)
constexpr int kLanes = 8, kColumns = 2;
#else
constexpr int kLanes = 4, kColumns = 2;
#endif
constexpr int kTile = 64;          // entries that go through the network together
constexpr int kUnits = 4;          // units of a layer that are computed together
constexpr int64_t kChunk = 8192;   // entries of a partial sum, and of a piece of work
constexpr int64_t kParts = 16;     // pieces that the rows of a matrix are cut into at most
constexpr float kSmallestSquare = 1e-30f, kFactorEpsilon = 1e-9f, kMomentEpsilon = 1e-6f,
                kStatisticEpsilon = 1e-8f;

typedef float Vector __attribute__((vector_size(4 * kLanes)));

inline Vector load(const float* from) {
  Vector x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }
inline Vector all(float x) { return x - Vector{}; }

// Memory of one thread or call, aligned for vectors.
class Floats {
 public:
  explicit Floats(int64_t count = 0) { resize(count); }
  void resize(int64_t count) {
    const size_t bytes = (std::max<int64_t>(count, 1) * 4 + 63) / 64 * 64;
    data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
  }
  float* get() const { return data_.get(); }
  operator float*() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
};

inline float inverse_root(float x) { return 1.0f / std::sqrt(x); }
inline float bounded_inverse_root(float x) {  // not a number stays one
  return inverse_root(x < kFactorEpsilon ? kFactorEpsilon : x);
}

// e^x to an error of two units in the last place.
inline float exponential(float x) {
  float bounded = x > 88.7f ? 88.7f : x;
  bounded = bounded < -87.3f ? -87.3f : bounded;
  const float n = (bounded * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * r + 1.3981999507e-3f;
  sum = sum * r + 8.3334519073e-3f;
  sum = sum * r + 4.1665795894e-2f;
  sum = sum * r + 1.6666665459e-1f;
  sum = sum * r + 5.0000001201e-1f;
  sum = sum * r * r + r + 1.0f;
  const bool last = n > 127;  // 2¹²⁸ is no number, but half of it twice is what it stands for
  const int32_t bits = (static_cast<int32_t>(n) + (last ? 126 : 127)) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const float value = (last ? 2.0f * sum : sum) * scale;
  return x > 88.7228394f ? std::numeric_limits<float>::infinity() : x != x ? x : value;
}

enum class Inputs : int64_t { kMomenta = 0, kFactored = 1, kFull = 2 };

struct Layer {
  const float *weights, *bias;  // [inputs, units], [units]
  int inputs, units;
};

struct Settings {
  Inputs inputs;
  bool row_along_rows;  // the statistic called row is the mean over the last axis
  int64_t matrices, rows, columns;
  int momenta, seconds, timescales;
  float epsilon;
  int64_t entries() const { return matrices * rows * columns; }
  bool factored() const { return inputs == Inputs::kFactored; }
  // Features of an entry that are built in a tile.
  int features() const {
    const int k = momenta, v = seconds;
    if (inputs == Inputs::kMomenta) return 2 + k;
    return 2 + 4 * k + 2 * v + (factored() ? 0 : 4 * k);
  }
  // Place of "row" among the inputs of the network, in the Adafactor family.
  int first_along() const { return 2 + 3 * momenta + 2 * seconds; }
};

// One tensor of a batch: what is read, what is written, and what is found on the way.
struct Tensor {
  const float *gradient, *parameter, *momenta, *momentum_decays;
  const float *second, *second_decays, *row, *column, *factored_decays;
  const float *time, *multipliers;
  std::vector<Layer> layers;
  float *new_momenta, *new_second, *new_row, *new_column, *step;
  // [K, matrices·rows] and [K, matrices·columns], whatever they are called.
  Floats row_factor, column_factor, along_rows, along_columns, first_weights, first_bias;
  std::vector<double> sums;     // of squares, in the order of the tile's features
  Floats partial;               // of every chunk
  Floats row_means, column_sums;
};

// Run function(0 … count − 1), here and on the threads that are free; nobody waits for a thread
// that has not begun.
void for_each(ffi::ThreadPool& pool, int64_t count, bool alone,
              const std::function<void(int64_t)>& function) {
  const int64_t helpers = alone ? 0 : std::min<int64_t>(pool.num_threads(), count) - 1;
  if (helpers < 1) {
    for (int64_t i = 0; i < count; ++i) function(i);
    return;
  }
  struct Shared {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable condition;
    int64_t done = 0;
  };
  auto shared = std::make_shared<Shared>();
  // A helper that begins late finds nothing to do, and does not look at `function`.
  auto work = [shared, count, &function] {
    int64_t mine = 0;
    for (int64_t i; (i = shared->next.fetch_add(1)) < count; ++mine) function(i);
    if (mine == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->done += mine;
    if (shared->done == count) shared->condition.notify_one();
  };
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(std::function<void()>(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->condition.wait(lock, [&] { return shared->done == count; });
}

// Σ g² along every row of a piece of a matrix, and along its columns.
void sum_squares(const Settings& s, Tensor& of, int64_t piece, int64_t parts) {
  const int64_t matrix = piece / parts, part = piece % parts;
  const int64_t first = s.rows * part / parts, last = s.rows * (part + 1) / parts;
  float* columns = of.column_sums + piece * s.columns;
  std::fill_n(columns, s.columns, 0.0f);
  for (int64_t i = first; i < last; ++i) {
    const float* row = of.gradient + (matrix * s.rows + i) * s.columns;
    Vector sums{};
    int64_t j = 0;
    for (; j + kLanes <= s.columns; j += kLanes) {
      const Vector x = load(row + j), square = x * x;
      sums += square;
      store(columns + j, load(columns + j) + square);
    }
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
    for (; j < s.columns; ++j) {
      sum += row[j] * row[j];
      columns[j] += row[j] * row[j];
    }
    of.row_means[matrix * s.rows + i] = sum / s.columns;
  }
}

// V ← βV + (1−β)(mean + 10⁻³⁰) of every decay, and the factors made of it.
void factored_statistics(const Settings& s, Tensor& of, int64_t parts) {
  const int64_t rows = s.matrices * s.rows, columns = s.matrices * s.columns;
  Floats column_means(columns);
  for (int64_t matrix = 0; matrix < s.matrices; ++matrix)
    for (int64_t j = 0; j < s.columns; ++j) {
      float sum = 0;
      for (int64_t part = 0; part < parts; ++part)
        sum += of.column_sums[(matrix * parts + part) * s.columns + j];
      column_means[matrix * s.columns + j] = sum / s.rows;
    }
  const bool along = s.row_along_rows;
  struct Statistic {
    const float *before, *means;
    float *after, *factor;
    int64_t size, extent;
  };
  const Statistic row{of.row, along ? of.row_means.get() : column_means.get(), of.new_row,
                      along ? of.row_factor.get() : of.column_factor.get(),
                      along ? rows : columns, along ? s.rows : s.columns};
  const Statistic column{of.column, along ? column_means.get() : of.row_means.get(), of.new_column,
                         along ? of.column_factor.get() : of.row_factor.get(),
                         along ? columns : rows, along ? s.columns : s.rows};
  for (int k = 0; k < s.momenta; ++k) {
    const float beta = of.factored_decays[k];
    for (const Statistic& x : {row, column})
      for (int64_t i = 0; i < x.size; ++i) {
        const float now = beta * x.before[k * x.size + i] +
                          (1 - beta) * (x.means[i] + kSmallestSquare);
        x.after[k * x.size + i] = now;
        x.factor[k * x.size + i] = bounded_inverse_root(now);
      }
    for (int64_t matrix = 0; matrix < s.matrices; ++matrix) {
      const float* values = row.after + k * row.size + matrix * row.extent;
      float* factor = row.factor + k * row.size + matrix * row.extent;
      double sum = 0;
      for (int64_t i = 0; i < row.extent; ++i) sum += values[i];
      const float mean = static_cast<float>(sum / row.extent) + kFactorEpsilon;
      for (int64_t i = 0; i < row.extent; ++i) factor[i] = bounded_inverse_root(values[i] / mean);
    }
  }
}

// Call segment(row, column, place in the tile, length) for the rows that a tile lies in.
template <typename Function>
void for_segments(const Settings& s, int64_t first, int valid, const Function& segment) {
  int64_t row = first / s.columns, column = first % s.columns;
  for (int place = 0; place < valid;) {
    const int length = static_cast<int>(std::min<int64_t>(valid - place, s.columns - column));
    segment(row, row / s.rows * s.columns + column, place, length);
    place += length;
    column = 0;
    ++row;
  }
}

inline void copy_tile(float* to, const float* from, int valid) {
  if (valid == kTile) {
    std::memcpy(to, from, 4 * kTile);
    return;
  }
  std::memcpy(to, from, 4 * valid);
  std::memset(to + valid, 0, 4 * (kTile - valid));
}

// The features of the entries from `first` on, [features, kTile], from the statistics that are new.
void build_tile(const Settings& s, const Tensor& of, int64_t first, int valid, float* tile) {
  const int64_t n = s.entries();
  const int k = s.momenta, v = s.seconds;
  float *g = tile, *m = tile + 2 * kTile;
  copy_tile(g, of.gradient + first, valid);
  copy_tile(g + kTile, of.parameter + first, valid);
  for (int i = 0; i < k; ++i) copy_tile(m + i * kTile, of.new_momenta + i * n + first, valid);
  if (s.inputs == Inputs::kMomenta) return;
  float* second = m + k * kTile;
  float* ratio = second + v * kTile;
  float* root = ratio + k * kTile;
  float* factored_gradient = root + v * kTile;
  float* factored_momenta = factored_gradient + (s.factored() ? k : 5 * k) * kTile;
  for (int i = 0; i < v; ++i) {
    copy_tile(second + i * kTile, of.new_second + i * n + first, valid);
    for (int t = 0; t < kTile; ++t)
      root[i * kTile + t] = inverse_root(second[i * kTile + t] + kMomentEpsilon);
  }
  for (int i = 0; i < k; ++i) {
    const float* x = root + (v == 1 ? 0 : i) * kTile;
    for (int t = 0; t < kTile; ++t) ratio[i * kTile + t] = m[i * kTile + t] * x[t];
  }
  if (s.factored()) {
    for_segments(s, first, valid, [&](int64_t row, int64_t column, int place, int length) {
      for (int i = 0; i < k; ++i) {
        const float of_row = of.row_factor[i * s.matrices * s.rows + row];
        const float* of_column = of.column_factor + i * s.matrices * s.columns + column;
        float* to = factored_gradient + i * kTile + place;
        for (int t = 0; t < length; ++t) to[t] = of_row * of_column[t];
      }
    });
    for (int i = 0; i < k; ++i) {
      float *a = factored_gradient + i * kTile, *b = factored_momenta + i * kTile;
      for (int t = valid; t < kTile; ++t) a[t] = 0;
      for (int t = 0; t < kTile; ++t) {
        const float factor = a[t];
        a[t] = g[t] * factor;
        b[t] = m[i * kTile + t] * factor;
      }
    }
    return;
  }
  float* full = factored_gradient + k * kTile;  // row, column, 1/√row, 1/√column
  for (int i = 0; i < k; ++i) {
    float* x = full + i * kTile;
    copy_tile(x, of.new_row + i * n + first, valid);
    std::memcpy(x + k * kTile, x, 4 * kTile);
    float *inverse = x + 2 * k * kTile, *a = factored_gradient + i * kTile;
    for (int t = 0; t < kTile; ++t) {
      inverse[t] = inverse_root(x[t] + kStatisticEpsilon);
      a[t] = g[t] * bounded_inverse_root(x[t] + kFactorEpsilon);
      factored_momenta[i * kTile + t] = m[i * kTile + t] * inverse_root(x[t] + kMomentEpsilon);
    }
    std::memcpy(inverse + k * kTile, inverse, 4 * kTile);
  }
}

void running_mean(float* after, const float* before, float beta, const float* value, int64_t count,
                  bool squared) {
  const float rest = 1 - beta;
  if (squared)
    for (int64_t i = 0; i < count; ++i) after[i] = beta * before[i] + rest * (value[i] * value[i]);
  else
    for (int64_t i = 0; i < count; ++i) after[i] = beta * before[i] + rest * value[i];
}

// The statistics of a chunk with this gradient, and the sum of squares of every feature.
void update_chunk(const Settings& s, Tensor& of, int64_t chunk) {
  const int64_t n = s.entries(), begin = chunk * kChunk, end = std::min(n, begin + kChunk);
  const int features = s.features();
  Floats tile(features * kTile);
  std::vector<Vector> sums(features, Vector{});
  for (int64_t first = begin; first < end; first += kTile) {
    const int valid = static_cast<int>(std::min<int64_t>(kTile, end - first));
    const float* g = of.gradient + first;
    for (int i = 0; i < s.momenta; ++i)
      running_mean(of.new_momenta + i * n + first, of.momenta + i * n + first,
                   of.momentum_decays[i], g, valid, false);
    for (int i = 0; i < s.seconds; ++i)
      running_mean(of.new_second + i * n + first, of.second + i * n + first, of.second_decays[i], g,
                   valid, true);
    if (s.inputs == Inputs::kFull)
      for (int i = 0; i < s.momenta; ++i) {
        const float beta = of.factored_decays[i];
        for (int t = 0; t < valid; ++t)
          of.new_row[i * n + first + t] = beta * of.row[i * n + first + t] +
                                          (1 - beta) * (g[t] * g[t] + kSmallestSquare);
      }
    build_tile(s, of, first, valid, tile);
    for (int f = 0; f < features; ++f) {
      float* x = tile + f * kTile;
      for (int t = valid; t < kTile; ++t) x[t] = 0;
      for (int t = 0; t < kTile; t += kLanes) {
        const Vector value = load(x + t);
        sums[f] += value * value;
      }
    }
  }
  for (int f = 0; f < features; ++f) {
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += sums[f][lane];
    of.partial[chunk * features + f] = sum;
  }
}

// Place among the inputs of the network of a feature of the tile.
int input_of(const Settings& s, int feature) {
  const bool after = s.factored() && feature >= s.first_along();
  return after ? feature + 4 * s.momenta : feature;
}

float scale_of(double sum_of_squares, int64_t count, float epsilon) {
  return inverse_root(static_cast<float>(sum_of_squares / count) + epsilon);
}

// W₁ with the scales in it, b₁ with the time in it, and the first layer of rows and columns.
void first_layer(const Settings& s, Tensor& of, int64_t chunks) {
  const Layer& layer = of.layers[0];
  const int features = s.features(), units = layer.units, k = s.momenta;
  for (int f = 0; f < features; ++f) {
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += of.partial[chunk * features + f];
    const float scale = scale_of(sum, s.entries(), s.epsilon);
    const float* row = layer.weights + input_of(s, f) * units;
    for (int u = 0; u < units; ++u) of.first_weights[f * units + u] = scale * row[u];
  }
  const int before_time = layer.inputs - s.timescales;
  for (int u = 0; u < units; ++u) {
    float sum = layer.bias[u];
    for (int i = 0; i < s.timescales; ++i)
      sum += of.time[i] * layer.weights[(before_time + i) * units + u];
    of.first_bias[u] = sum;
  }
  if (!s.factored()) return;
  const int64_t sizes[2] = {s.matrices * s.rows, s.matrices * s.columns};
  for (int which = 0; which < 2; ++which) {  // along rows, along columns
    const bool is_row = (which == 0) == s.row_along_rows;
    const int64_t size = sizes[which];
    const float* statistic = is_row ? of.new_row : of.new_column;
    float* along = which == 0 ? of.along_rows : of.along_columns;
    std::fill_n(along, units * size, 0.0f);
    Floats feature(size);
    for (int inverse = 0; inverse < 2; ++inverse)
      for (int i = 0; i < k; ++i) {
        double sum = 0;
        for (int64_t x = 0; x < size; ++x) {
          const float value = statistic[i * size + x];
          feature[x] = inverse ? inverse_root(value + kStatisticEpsilon) : value;
          sum += feature[x] * feature[x];
        }
        const float scale = scale_of(sum, size, s.epsilon);
        const int input = s.first_along() + (2 * inverse + (is_row ? 0 : 1)) * k + i;
        for (int u = 0; u < units; ++u) {
          const float weight = scale * layer.weights[input * units + u];
          for (int64_t x = 0; x < size; ++x) along[u * size + x] += weight * feature[x];
        }
      }
  }
}

// `columns` vectors of `count` units: the units so far + Wᵀ inputs, both [·, kTile].
template <int count, int columns>
inline void product_of(const float* weights, int stride, const float* inputs, int input_count,
                       float* units) {
  Vector sums[count][columns];
  for (int u = 0; u < count; ++u)
    for (int c = 0; c < columns; ++c) sums[u][c] = load(units + u * kTile + c * kLanes);
  for (int i = 0; i < input_count; ++i) {
    Vector x[columns];
    for (int c = 0; c < columns; ++c) x[c] = load(inputs + i * kTile + c * kLanes);
    for (int u = 0; u < count; ++u) {
      const Vector weight = all(weights[i * stride + u]);
      for (int c = 0; c < columns; ++c) sums[u][c] += weight * x[c];
    }
  }
  for (int u = 0; u < count; ++u)
    for (int c = 0; c < columns; ++c) store(units + u * kTile + c * kLanes, sums[u][c]);
}

void product(const float* weights, const float* inputs, int input_count, float* units, int count) {
  for (int t = 0; t < kTile; t += kColumns * kLanes) {
    int u = 0;
    for (; u + kUnits <= count; u += kUnits)
      product_of<kUnits, kColumns>(weights + u, count, inputs + t, input_count, units + u * kTile + t);
    for (; u + 2 <= count; u += 2)
      product_of<2, kColumns>(weights + u, count, inputs + t, input_count, units + u * kTile + t);
    for (; u < count; ++u)
      product_of<1, kColumns>(weights + u, count, inputs + t, input_count, units + u * kTile + t);
  }
}

void fill_bias(const float* bias, int units, float* to) {
  for (int u = 0; u < units; ++u) std::fill_n(to + u * kTile, kTile, bias[u]);
}

// The step of the entries of a chunk.
void step_chunk(const Settings& s, const Tensor& of, int64_t chunk) {
  const int64_t n = s.entries(), begin = chunk * kChunk, end = std::min(n, begin + kChunk);
  int widest = 2;
  for (const Layer& layer : of.layers) widest = std::max(widest, layer.units);
  Floats tile(s.features() * kTile), one(widest * kTile), other(widest * kTile);
  for (int64_t first = begin; first < end; first += kTile) {
    const int valid = static_cast<int>(std::min<int64_t>(kTile, end - first));
    build_tile(s, of, first, valid, tile);
    float *units = one, *next = other;
    int count = of.layers[0].units;
    fill_bias(of.first_bias, count, units);
    if (s.factored())
      for_segments(s, first, valid, [&](int64_t row, int64_t column, int place, int length) {
        for (int u = 0; u < count; ++u) {
          const float of_row = of.along_rows[u * s.matrices * s.rows + row];
          const float* of_column = of.along_columns + u * s.matrices * s.columns + column;
          float* to = units + u * kTile + place;
          for (int t = 0; t < length; ++t) to[t] += of_row + of_column[t];
        }
      });
    product(of.first_weights, tile, s.features(), units, count);
    for (size_t i = 1; i < of.layers.size(); ++i) {
      const Layer& layer = of.layers[i];
      for (int t = 0; t < count * kTile; ++t) units[t] = units[t] <= 0 ? 0 : units[t];
      fill_bias(layer.bias, layer.units, next);
      product(layer.weights, units, count, next, layer.units);
      std::swap(units, next);
      count = layer.units;
    }
    float step[kTile];
    for (int t = 0; t < kTile; ++t)
      step[t] = -of.multipliers[0] * units[t] *
                exponential(of.multipliers[1] * units[kTile + t]);
    std::memcpy(of.step + first, step, 4 * valid);
  }
}

void make_room(const Settings& s, Tensor& of, int64_t chunks, int64_t parts) {
  const int units = of.layers[0].units;
  of.partial.resize(chunks * s.features());
  of.first_weights.resize(s.features() * units);
  of.first_bias.resize(units);
  if (!s.factored()) return;
  const int64_t rows = s.matrices * s.rows, columns = s.matrices * s.columns;
  of.row_means.resize(rows);
  of.column_sums.resize(parts * columns);
  of.row_factor.resize(s.momenta * rows);
  of.column_factor.resize(s.momenta * columns);
  of.along_rows.resize(units * rows);
  of.along_columns.resize(units * columns);
}

void step_tensors(ffi::ThreadPool& pool, const Settings& s, std::vector<Tensor>& tensors) {
  const int64_t chunks = (s.entries() + kChunk - 1) / kChunk, batch = tensors.size();
  const int64_t parts = std::max<int64_t>(1, std::min(std::min(kParts, s.rows), s.rows * s.columns / kChunk));
  const bool alone = batch * chunks < 2 || batch * s.entries() < 4 * kChunk;
  for (Tensor& tensor : tensors) make_room(s, tensor, chunks, parts);
  if (s.factored()) {
    const int64_t pieces = s.matrices * parts;
    for_each(pool, batch * pieces, alone,
             [&](int64_t i) { sum_squares(s, tensors[i / pieces], i % pieces, parts); });
    for_each(pool, batch, alone, [&](int64_t i) { factored_statistics(s, tensors[i], parts); });
  }
  for_each(pool, batch * chunks, alone,
           [&](int64_t i) { update_chunk(s, tensors[i / chunks], i % chunks); });
  for_each(pool, batch, alone, [&](int64_t i) { first_layer(s, tensors[i], chunks); });
  for_each(pool, batch * chunks, alone,
           [&](int64_t i) { step_chunk(s, tensors[i / chunks], i % chunks); });
}

using Array = ffi::Buffer<ffi::F32>;

// Where element `index` of a batch begins in an array whose last `rank` axes are its own; an array
// that is the same for the batch has extents of 1.
int64_t offset_of(ffi::Span<const int64_t> dimensions, size_t rank, int64_t index,
                  const std::vector<int64_t>& batch) {
  int64_t stride = 1, offset = 0;
  for (size_t i = dimensions.size() - rank; i < dimensions.size(); ++i) stride *= dimensions[i];
  for (size_t i = batch.size(); i-- > 0;) {
    const int64_t at = index % batch[i];
    index /= batch[i];
    if (dimensions[i] > 1) offset += at * stride;
    stride *= dimensions[i];
  }
  return offset;
}

ffi::Error step_of_tensor(ffi::ThreadPool pool, ffi::RemainingArgs arguments,
                          ffi::RemainingRets results, int64_t inputs, bool row_along_rows,
                          int64_t layers, float epsilon) {
  Settings s{};
  s.inputs = static_cast<Inputs>(inputs);
  s.row_along_rows = row_along_rows;
  s.epsilon = epsilon;
  const bool statistics = s.inputs != Inputs::kMomenta;
  const size_t before_layers = statistics ? 11 : 6;
  if (arguments.size() != before_layers + 2 * layers || results.size() != (statistics ? 4u + s.factored() : 2u))
    return ffi::Error::InvalidArgument("a wrong number of arrays");
  // Ranks without those of the batch: g, p, m, its decays, [v, its decays, row, column, their
  // decays,] time, a and b, then weights and biases. Below rank 2 row and column are one statistic.
  std::vector<size_t> ranks = {3, 3, 4, 1};
  const size_t of_factors = s.factored() ? 3 : 4;
  if (statistics) ranks.insert(ranks.end(), {4, 1, of_factors, of_factors, 1});
  ranks.insert(ranks.end(), {1, 1});
  for (int64_t i = 0; i < layers; ++i) ranks.insert(ranks.end(), {2, 1});
  std::vector<Array> arrays;
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto array = arguments.get<Array>(i);
    if (!array.has_value()) return array.error();
    if (array->dimensions().size() < ranks[i]) return ffi::Error::InvalidArgument("a wrong rank");
    arrays.push_back(*array);
  }
  std::vector<float*> written;
  for (size_t i = 0; i < results.size(); ++i) {
    auto array = results.get<Array>(i);
    if (!array.has_value()) return array.error();
    written.push_back((*array)->typed_data());
  }
  auto own = [&](size_t i, size_t axis) {  // extent of an axis of the array's own
    const auto d = arrays[i].dimensions();
    return d[d.size() - ranks[i] + axis];
  };
  s.matrices = own(0, 0), s.rows = own(0, 1), s.columns = own(0, 2);
  s.momenta = static_cast<int>(own(2, 0));
  s.seconds = statistics ? static_cast<int>(own(4, 0)) : 0;
  s.timescales = static_cast<int>(own(before_layers - 2, 0));
  // The gradient may be the same for a batch of θ: the batch is that of the results.
  auto result = results.get<Array>(results.size() - 1);
  const auto shape = (*result)->dimensions();
  const std::vector<int64_t> batch(shape.begin(), shape.end() - 3);
  int64_t count = 1;
  for (int64_t extent : batch) count *= extent;
  std::vector<Tensor> tensors(count);
  const int64_t n = s.entries(), k = s.momenta;
  const int64_t rows = s.matrices * s.rows, columns = s.matrices * s.columns;
  const int64_t row_size = !s.factored() ? n : s.row_along_rows ? rows : columns;
  const int64_t column_size = !s.factored() ? n : s.row_along_rows ? columns : rows;
  for (int64_t b = 0; b < count; ++b) {
    auto at = [&](size_t i) {
      return arrays[i].typed_data() + offset_of(arrays[i].dimensions(), ranks[i], b, batch);
    };
    Tensor& of = tensors[b];
    of.gradient = at(0), of.parameter = at(1), of.momenta = at(2), of.momentum_decays = at(3);
    of.new_momenta = written[0] + b * k * n;
    if (statistics) {
      of.second = at(4), of.second_decays = at(5), of.row = at(6), of.column = at(7);
      of.factored_decays = at(8);
      of.new_second = written[1] + b * s.seconds * n;
      of.new_row = written[2] + b * k * row_size;
      if (s.factored()) of.new_column = written[3] + b * k * column_size;
    }
    of.time = at(before_layers - 2), of.multipliers = at(before_layers - 1);
    of.step = written.back() + b * n;
    for (int64_t i = 0; i < layers; ++i) {
      const size_t w = before_layers + 2 * i;
      of.layers.push_back({at(w), at(w + 1), static_cast<int>(own(w, 0)), static_cast<int>(own(w, 1))});
    }
  }
  step_tensors(pool, s, tensors);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(learned_opt_step_of_tensor, step_of_tensor,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<int64_t>("inputs")
                                  .Attr<bool>("row_along_rows")
                                  .Attr<int64_t>("layers")
                                  .Attr<float>("epsilon"));
