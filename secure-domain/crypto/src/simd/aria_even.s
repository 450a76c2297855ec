// An even inner round of ARIA with the diffusion after it; `aria.rs` explains the arrangement and has the same in Rust.
//
// On entry v0 to v15 are places 0 to 15 of the state, and v16 to v19 the second summands of the free places 0, 2, 4 and 8.
// `key` points at the round's 16 vectors. v28 is 15 in every lane, v29 and v30 are the high-nibble tables of S2 and before
// S2's inverse, v31 is ShiftRows twice.
//
// A round is 108 instructions: 8 S-boxes at 1, S2 at 6 and its inverse at 5 four times each, 8 turns, 44 sums, 4 loads. The
// registers were assigned by a search over orders of the sums, so that no value is ever copied or stored; the compiler's
// allocator does not find such an order, and takes 120. Chains of dependent instructions are interleaved for cores that
// execute in order.
ld1 {{v24.16b-v27.16b}}, [{key}], #64
aesd v0.16b, v16.16b
aese v2.16b, v17.16b
aesd v4.16b, v18.16b
aesd v8.16b, v19.16b
ld1 {{v20.16b-v23.16b}}, [{key}], #64
ushr v16.16b, v1.16b, #4
tbl v2.16b, {{v2.16b}}, v31.16b
aese v3.16b, v25.16b
ushr v18.16b, v5.16b, #4
aese v6.16b, v20.16b
aese v7.16b, v21.16b
and v1.16b, v1.16b, v28.16b
ushr v17.16b, v3.16b, #4
and v5.16b, v5.16b, v28.16b
tbl v6.16b, {{v6.16b}}, v31.16b
ushr v19.16b, v7.16b, #4
tbl v16.16b, {{v30.16b}}, v16.16b
and v3.16b, v3.16b, v28.16b
tbl v18.16b, {{v30.16b}}, v18.16b
and v7.16b, v7.16b, v28.16b
tbl v1.16b, {{v24.16b}}, v1.16b
tbl v17.16b, {{v29.16b}}, v17.16b
tbl v5.16b, {{v27.16b}}, v5.16b
tbl v19.16b, {{v29.16b}}, v19.16b
aesd v1.16b, v16.16b
tbl v3.16b, {{v26.16b}}, v3.16b
aesd v5.16b, v18.16b
tbl v7.16b, {{v22.16b}}, v7.16b
eor v3.16b, v3.16b, v17.16b
eor v7.16b, v7.16b, v19.16b
ushr v16.16b, v9.16b, #4
tbl v3.16b, {{v3.16b}}, v31.16b
tbl v7.16b, {{v7.16b}}, v31.16b
and v9.16b, v9.16b, v28.16b
tbl v16.16b, {{v30.16b}}, v16.16b
tbl v9.16b, {{v23.16b}}, v9.16b
aesd v9.16b, v16.16b
ld1 {{v24.16b-v27.16b}}, [{key}], #64
ld1 {{v20.16b-v23.16b}}, [{key}], #64
aese v10.16b, v24.16b
aese v11.16b, v25.16b
aesd v12.16b, v27.16b
ushr v17.16b, v13.16b, #4
aese v14.16b, v21.16b
aese v15.16b, v22.16b
tbl v10.16b, {{v10.16b}}, v31.16b
ushr v16.16b, v11.16b, #4
and v13.16b, v13.16b, v28.16b
tbl v14.16b, {{v14.16b}}, v31.16b
ushr v18.16b, v15.16b, #4
and v11.16b, v11.16b, v28.16b
tbl v17.16b, {{v30.16b}}, v17.16b
and v15.16b, v15.16b, v28.16b
tbl v16.16b, {{v29.16b}}, v16.16b
tbl v13.16b, {{v20.16b}}, v13.16b
tbl v18.16b, {{v29.16b}}, v18.16b
tbl v11.16b, {{v26.16b}}, v11.16b
aesd v13.16b, v17.16b
tbl v15.16b, {{v23.16b}}, v15.16b
eor v11.16b, v11.16b, v16.16b
eor v15.16b, v15.16b, v18.16b
tbl v11.16b, {{v11.16b}}, v31.16b
tbl v15.16b, {{v15.16b}}, v31.16b
// Diffusion.
eor v18.16b, v7.16b, v13.16b
eor v17.16b, v6.16b, v8.16b
eor v16.16b, v13.16b, v17.16b
eor v19.16b, v1.16b, v10.16b
eor v10.16b, v10.16b, v18.16b
eor v13.16b, v3.16b, v14.16b
eor v24.16b, v4.16b, v13.16b
eor v22.16b, v2.16b, v15.16b
eor v15.16b, v15.16b, v19.16b
eor v13.16b, v8.16b, v22.16b
eor v22.16b, v5.16b, v22.16b
eor v8.16b, v5.16b, v11.16b
eor v5.16b, v5.16b, v13.16b
eor v25.16b, v4.16b, v15.16b
eor v23.16b, v0.16b, v8.16b
eor v8.16b, v18.16b, v25.16b
eor v18.16b, v14.16b, v23.16b
eor v4.16b, v4.16b, v5.16b
eor v14.16b, v19.16b, v4.16b
eor v4.16b, v0.16b, v8.16b
eor v19.16b, v0.16b, v10.16b
eor v21.16b, v10.16b, v18.16b
eor v0.16b, v6.16b, v12.16b
eor v8.16b, v9.16b, v12.16b
eor v20.16b, v2.16b, v8.16b
eor v8.16b, v7.16b, v8.16b
eor v5.16b, v5.16b, v8.16b
eor v8.16b, v9.16b, v24.16b
eor v23.16b, v23.16b, v8.16b
eor v10.16b, v8.16b, v15.16b
eor v2.16b, v7.16b, v20.16b
eor v15.16b, v24.16b, v2.16b
eor v24.16b, v1.16b, v11.16b
eor v7.16b, v11.16b, v0.16b
eor v11.16b, v1.16b, v0.16b
eor v7.16b, v25.16b, v7.16b
eor v2.16b, v24.16b, v2.16b
eor v6.16b, v6.16b, v2.16b
eor v11.16b, v18.16b, v11.16b
eor v2.16b, v3.16b, v19.16b
eor v2.16b, v17.16b, v2.16b
eor v0.16b, v3.16b, v16.16b
eor v3.16b, v12.16b, v0.16b
eor v3.16b, v24.16b, v3.16b
