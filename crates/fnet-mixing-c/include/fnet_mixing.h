// Parameter-free Fourier token mixing: y = Re(FFT2(x)) over the sequence and hidden axes (Lee-Thorp et al. 2021).
// Made from src/lib.rs by the tests. Licence: MIT or Apache-2.0.

#ifndef FNET_MIXING_H
#define FNET_MIXING_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// What became of a call.
typedef enum FnetStatus {
  // All is well.
  FNET_OK = 0,
  // A pointer is null, or a float's is not aligned.
  FNET_BAD_POINTER = 1,
  // A length is zero, or the sizes are larger than memory.
  FNET_BAD_SHAPE = 2,
  // Offsets do not rise from 0.
  FNET_BAD_OFFSETS = 3,
  // Input and output overlap without being the same.
  FNET_OVERLAP = 4,
  // `FNET_SIMD` names a level that is unknown, or that this CPU lacks.
  FNET_BAD_SIMD = 5,
} FnetStatus;

// Mixes samples of one shape, planned once.
typedef struct FnetMixer FnetMixer;

// Mixes sequences of any lengths, planned as lengths are first seen.
typedef struct FnetRaggedMixer FnetRaggedMixer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Plans mixing for samples of `seq_len` rows of `hidden` values. Null if `seq_len` or `hidden` is zero or too large, or
// `FNET_SIMD` is wrong; `status`, unless it is null, says which. To be freed by `fnet_mixer_free`.
//
// # Safety
// `status` is null or may be written.
struct FnetMixer *fnet_mixer_new(size_t seq_len,
                                 size_t hidden,
                                 enum FnetStatus *status);

// Frees a mixer; null is allowed.
//
// # Safety
// It is from `fnet_mixer_new`, and is not used afterwards.
void fnet_mixer_free(struct FnetMixer *mixer);

// `output = Re(FFT2(input))` for each of `samples`, both `[samples, seq_len, hidden]`, row by row. `output` may be `input`.
//
// # Safety
// Both hold that many floats, and nobody else writes them, or reads `output`, meanwhile.
enum FnetStatus fnet_mix(const struct FnetMixer *mixer,
                         const float *input,
                         float *output,
                         size_t samples);

// Mixing for tokens of `hidden` values. Never null; calls say what is wrong. To be freed by `fnet_ragged_mixer_free`.
struct FnetRaggedMixer *fnet_ragged_mixer_new(size_t hidden);

// Frees a mixer; null is allowed.
//
// # Safety
// It is from `fnet_ragged_mixer_new`, and is not used afterwards.
void fnet_ragged_mixer_free(struct FnetRaggedMixer *mixer);

// `output = Re(FFT2(input))` for each of `sequences`, packed one after another, `[tokens, hidden]`. `offsets` holds the
// first token of each and the end of the last: `sequences + 1` numbers, from 0. `output` may be `input`.
//
// # Safety
// `hidden` is that of the mixer; the arrays hold that many numbers, and nobody else writes them, or reads `output`,
// meanwhile.
enum FnetStatus fnet_mix_ragged(const struct FnetRaggedMixer *mixer,
                                size_t hidden,
                                const size_t *offsets,
                                size_t sequences,
                                const float *input,
                                float *output);

// What a status means, in English; it lives as long as the program.
const char *fnet_message(int status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FNET_MIXING_H */
