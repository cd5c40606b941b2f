// Mixes a batch and two sequences of their own lengths, and compares both with the definition.

#include "fnet_mixing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TAU 6.283185307179586

static float x[2 * 5 * 6], y[2 * 5 * 6];

// The largest difference from the definition, of one sample of `rows` of `hidden` values.
static double difference(const float *from, const float *to, int rows, int hidden) {
    double worst = 0;
    for (int j = 0; j < rows; j++)
        for (int k = 0; k < hidden; k++) {
            double sum = 0;
            for (int n = 0; n < rows; n++)
                for (int m = 0; m < hidden; m++)
                    sum += from[n * hidden + m] * cos(TAU * ((double)j * n / rows + (double)k * m / hidden));
            worst = fmax(worst, fabs(sum - to[j * hidden + k]));
        }
    return worst;
}

static void check(FnetStatus status) {
    if (status != FNET_OK) {
        fprintf(stderr, "mixing: %s\n", fnet_message(status));
        exit(1);
    }
}

int main(void) {
    for (int i = 0; i < 2 * 5 * 6; i++)
        x[i] = (float)sin(i * 0.7) + (float)(i % 3);

    FnetStatus status;
    FnetMixer *mixer = fnet_mixer_new(5, 6, &status);
    check(status);
    check(fnet_mix(mixer, x, y, 2));
    double worst = fmax(difference(x, y, 5, 6), difference(x + 30, y + 30, 5, 6));

    // Sequences of 3 and 7 tokens, one after another.
    FnetRaggedMixer *ragged = fnet_ragged_mixer_new(6);
    size_t offsets[] = {0, 3, 10};
    check(fnet_mix_ragged(ragged, 6, offsets, 2, x, y));
    worst = fmax(worst, fmax(difference(x, y, 3, 6), difference(x + 18, y + 18, 7, 6)));
    printf("largest difference from the definition: %.1e\n", worst);

    // What is wrong is said.
    size_t falling[] = {0, 4, 3};
    int refused = fnet_mixer_new(0, 6, &status) == NULL && status == FNET_BAD_SHAPE
        && fnet_mix(NULL, x, y, 1) == FNET_BAD_POINTER && fnet_mix(mixer, NULL, y, 1) == FNET_BAD_POINTER
        && fnet_mix(mixer, x, x + 6, 1) == FNET_OVERLAP && fnet_mix(mixer, x, x, 1) == FNET_OK
        && fnet_mix(mixer, x, y, SIZE_MAX) == FNET_BAD_SHAPE
        && fnet_mix_ragged(ragged, 6, falling, 2, x, y) == FNET_BAD_OFFSETS;
    fnet_mixer_free(mixer);
    fnet_ragged_mixer_free(ragged);
    fnet_mixer_free(NULL);
    return worst < 1e-3 && refused ? 0 : 1;
}
