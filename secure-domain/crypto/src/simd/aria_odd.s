// An odd inner round of ARIA with the diffusion after it, as `aria_even.s`.
//
// It begins with the registers as the even round leaves them: places 0 to 15 in v8, 5, 7, 21, 13, 10, 20, 3, 4, 11, 0, 15, 6,
// 2, 23 and 14, and the second summands of the free places 0, 4, 6 and 10 in v16, 18, 19 and 22. It ends with them as the
// even round finds them.
ld1 {{v24.16b-v27.16b}}, [{key}], #64
aese v8.16b, v16.16b
aese v13.16b, v18.16b
aesd v20.16b, v19.16b
aesd v0.16b, v22.16b
ld1 {{v16.16b-v19.16b}}, [{key}], #64
aese v5.16b, v24.16b
aesd v7.16b, v26.16b
ushr v9.16b, v21.16b, #4
aese v10.16b, v16.16b
tbl v20.16b, {{v20.16b}}, v31.16b
ushr v22.16b, v3.16b, #4
aese v4.16b, v19.16b
tbl v0.16b, {{v0.16b}}, v31.16b
ushr v1.16b, v5.16b, #4
tbl v7.16b, {{v7.16b}}, v31.16b
and v21.16b, v21.16b, v28.16b
ushr v12.16b, v10.16b, #4
and v3.16b, v3.16b, v28.16b
and v5.16b, v5.16b, v28.16b
tbl v9.16b, {{v30.16b}}, v9.16b
and v10.16b, v10.16b, v28.16b
tbl v22.16b, {{v30.16b}}, v22.16b
tbl v1.16b, {{v29.16b}}, v1.16b
tbl v21.16b, {{v27.16b}}, v21.16b
tbl v12.16b, {{v29.16b}}, v12.16b
tbl v3.16b, {{v18.16b}}, v3.16b
tbl v5.16b, {{v25.16b}}, v5.16b
aesd v21.16b, v9.16b
tbl v10.16b, {{v17.16b}}, v10.16b
aesd v3.16b, v22.16b
eor v5.16b, v5.16b, v1.16b
tbl v21.16b, {{v21.16b}}, v31.16b
eor v10.16b, v10.16b, v12.16b
tbl v3.16b, {{v3.16b}}, v31.16b
ld1 {{v24.16b-v27.16b}}, [{key}], #64
ld1 {{v16.16b-v19.16b}}, [{key}], #64
aese v11.16b, v24.16b
ushr v9.16b, v15.16b, #4
aese v6.16b, v27.16b
aese v2.16b, v16.16b
aesd v23.16b, v18.16b
ushr v22.16b, v14.16b, #4
ushr v1.16b, v11.16b, #4
and v15.16b, v15.16b, v28.16b
ushr v12.16b, v2.16b, #4
tbl v23.16b, {{v23.16b}}, v31.16b
and v14.16b, v14.16b, v28.16b
and v11.16b, v11.16b, v28.16b
tbl v9.16b, {{v30.16b}}, v9.16b
and v2.16b, v2.16b, v28.16b
tbl v22.16b, {{v30.16b}}, v22.16b
tbl v1.16b, {{v29.16b}}, v1.16b
tbl v15.16b, {{v26.16b}}, v15.16b
tbl v12.16b, {{v29.16b}}, v12.16b
tbl v14.16b, {{v19.16b}}, v14.16b
tbl v11.16b, {{v25.16b}}, v11.16b
aesd v15.16b, v9.16b
tbl v2.16b, {{v17.16b}}, v2.16b
aesd v14.16b, v22.16b
eor v11.16b, v11.16b, v1.16b
tbl v15.16b, {{v15.16b}}, v31.16b
eor v2.16b, v2.16b, v12.16b
tbl v14.16b, {{v14.16b}}, v31.16b
// Diffusion.
eor v22.16b, v20.16b, v4.16b
eor v24.16b, v5.16b, v15.16b
eor v1.16b, v7.16b, v14.16b
eor v4.16b, v4.16b, v1.16b
eor v25.16b, v10.16b, v1.16b
eor v16.16b, v20.16b, v6.16b
eor v1.16b, v11.16b, v6.16b
eor v26.16b, v7.16b, v1.16b
eor v1.16b, v3.16b, v1.16b
eor v17.16b, v10.16b, v4.16b
eor v10.16b, v10.16b, v15.16b
eor v1.16b, v17.16b, v1.16b
eor v7.16b, v13.16b, v17.16b
eor v10.16b, v8.16b, v10.16b
eor v17.16b, v15.16b, v16.16b
eor v9.16b, v5.16b, v16.16b
eor v15.16b, v5.16b, v0.16b
eor v5.16b, v14.16b, v15.16b
eor v15.16b, v15.16b, v7.16b
eor v16.16b, v2.16b, v22.16b
eor v14.16b, v3.16b, v2.16b
eor v3.16b, v3.16b, v26.16b
eor v2.16b, v21.16b, v23.16b
eor v27.16b, v0.16b, v14.16b
eor v7.16b, v13.16b, v2.16b
eor v0.16b, v11.16b, v7.16b
eor v2.16b, v13.16b, v5.16b
eor v11.16b, v7.16b, v3.16b
eor v3.16b, v24.16b, v3.16b
eor v18.16b, v23.16b, v10.16b
eor v12.16b, v20.16b, v3.16b
eor v5.16b, v0.16b, v5.16b
eor v19.16b, v14.16b, v2.16b
eor v9.16b, v18.16b, v9.16b
eor v14.16b, v10.16b, v0.16b
eor v3.16b, v21.16b, v16.16b
eor v10.16b, v3.16b, v25.16b
eor v3.16b, v6.16b, v3.16b
eor v7.16b, v24.16b, v3.16b
eor v3.16b, v27.16b, v18.16b
eor v6.16b, v8.16b, v27.16b
eor v13.16b, v21.16b, v6.16b
eor v13.16b, v22.16b, v13.16b
eor v6.16b, v26.16b, v6.16b
