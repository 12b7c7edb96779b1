/* What a shared object offers to be compared with our cells by against.c: layers whose sizes it knew when it was compiled. */
#ifndef PEER_H
#define PEER_H
#ifdef __cplusplus
extern "C" {
#endif

enum { PEER_LSTM, PEER_GRU };
enum { PEER_FRAME_FLOATS = 64 };   /* frames lie this far apart, each 64-byte aligned */

typedef struct peer_layer {
    int kind, input_size, hidden_size;
    /* W [G*H, I], R [G*H, H], B [2*G*H] as ONNX orders them; a GRU resets after the product. The state is zero. */
    void *(*create)(const float *W, const float *R, const float *B);
    /* `count` steps, each on its frame: x [count, PEER_FRAME_FLOATS]; y [H] is the state after the last. */
    void (*run)(void *layer, const float *x, long count, float *y);
} peer_layer;

/* Exported by the shared object; `count` layers. */
typedef const peer_layer *peer_layers_fn(int *count);

#ifdef __cplusplus
}
#endif
#endif
