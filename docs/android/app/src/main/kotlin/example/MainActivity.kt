package example

import android.app.Activity
import android.os.Bundle
import android.widget.TextView

/** Feeds made-up frames to `app/src/main/assets/model.tflite` and shows how long a step took. */
class MainActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val text = TextView(this).also { setContentView(it) }
        Thread {
            // The names and the size are those of docs/phones.md's example; put your own model's in their place.
            val said = StreamingModel(assets, "model.tflite", "x", "y", listOf("lstm_h", "lstm_c")).use { model ->
                val frames = List(100) { FloatArray(40) { Math.random().toFloat() } }
                val start = System.nanoTime()
                val last = frames.map { model.step(it) }.last()
                val each = (System.nanoTime() - start) / 1e6 / frames.size
                "%.3f ms a step\nlast output: %s".format(each, last.joinToString(limit = 5))
            }
            runOnUiThread { text.text = said }
        }.start()
    }
}
